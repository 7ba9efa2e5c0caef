import { defineConfig } from "vitest/config";
import { FileOrder } from "./test/kit/file-order.ts";

// Three kinds of tests: unit and room tests stand beside the code, integration tests take rooms together with a real
// API server, e2e tests run inside the cluster that test/cluster/with-cluster.sh makes.
const rooms = ["packages/*/src/**/*.test.ts", "proxy/src/**/*.test.ts", "controller/src/**/*.test.ts"];

export default defineConfig({
  test: {
    reporters: ["default", "./test/kit/reporter.ts"],
    passWithNoTests: false,
    sequence: { sequencer: FileOrder },
    projects: [
      {
        test: {
          name: "unit",
          include: [...rooms, "csi-driver/src/**/*.test.ts", "test/*.test.ts", "test/kit/**/*.test.ts"],
          testTimeout: 20_000,
          pool: "forks",
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          pool: "forks",
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          // Tests of runs wait for the cluster; those of a file that may go on beside each other all do.
          maxConcurrency: 50,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          pool: "forks",
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "soak",
          include: ["test/soak/*.test.ts"],
          // The longest that DURATION allows, and the time to come to rest.
          testTimeout: 4_000_000,
          pool: "forks",
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "bench",
          include: ["test/bench/**/*.test.ts"],
          testTimeout: 600_000,
          pool: "forks",
          fileParallelism: false,
        },
      },
    ],
  },
});
