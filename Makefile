# Each target does its own set-up; on a fresh machine `make demo` and `make test` are all there is to know.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
.PHONY: help demo test unit integration e2e fuzz bench soak lint format generate bundle setup clean

help:
	@echo "make demo            see it work, with no cluster at hand (DIR=path serves your own Connector files)"
	@echo "make test            everything: lint, unit, room, integration and, as root, cluster tests"
	@echo "make unit            the quick tests alone"
	@echo "make integration     rooms together, before a real API server"
	@echo "make e2e             the tests on a real cluster (root); ARGS=... goes to vitest"
	@echo "make fuzz            the HTTP/1.1 framer against other parsers, 5 minutes; ARGS=\"--seconds N --seed N --case FILE\""
	@echo "make bench           figures, each as a line: name value unit target ok|short"
	@echo "make soak            ten minutes of everything at once, and what is left of it; DURATION=seconds SEED=number"
	@echo "make lint | format | generate | bundle"

setup:
	@scripts/setup.sh

demo: setup
ifdef DIR
	@node packages/cli/src/main.ts standalone "$(DIR)"
else
	@node test/kit/demo.ts
endif

test: setup
	@scripts/test.sh

unit: setup
	@vitest run --project unit $(ARGS)

integration: setup
	@test/cluster/build.sh >/dev/null
	@vitest run --project integration $(ARGS)

e2e: setup
	@scripts/e2e.sh $(ARGS)

fuzz: setup
	@node test/fuzz/main.ts $(ARGS)

bench: setup
	@test/bench/install.sh
	@test/cluster/build.sh >/dev/null
	@rm -f test/bench/results.json
	@vitest run --project bench $(ARGS) --disable-console-intercept

soak: setup
	@test/cluster/build.sh >/dev/null
	@vitest run --project soak $(ARGS) --disable-console-intercept

lint: setup
	@npm run --silent lint

format: setup
	@biome format --write .

generate: setup
	@npm run --silent generate

bundle: setup
	@npm run --silent bundle

clean:
	rm -rf node_modules dist
