import { expect, test } from "vitest";
import { exportedCronJob, exportedJob } from "../../../../test/kit/job-objects.ts";
import { describeSource } from "./parameters.ts";

// What a Job or CronJob offers: its first container's variables with their defaults. What comes from a Secret or ConfigMap is
// named, and not read.

test("a Job with its first container's parameters", () => {
  expect(describeSource("Job", exportedJob)).toEqual({
    kind: "Job",
    name: "nightly-29391840",
    namespace: "batch",
    uid: exportedJob.metadata.uid,
    suspended: false,
    containers: [
      { name: "extract", image: "images.example/etl:7", command: ["etl", "extract"] },
      { name: "load", image: "images.example/etl:7", args: ["load"] },
    ],
    parameters: [
      { name: "HOST", type: "String", default: "db.$(REGION).example", container: "extract", expand: true },
      { name: "REGION", type: "String", default: "eu", container: "extract" },
      { name: "PASSWORD", type: "String", default: null, container: "extract", from: "Secret db/password" },
      { name: "NODE", type: "String", default: null, container: "extract", from: "Field spec.nodeName" },
    ],
    groups: [
      { container: "extract", prefix: "", from: "ConfigMap settings" },
      { container: "extract", prefix: "DB_", from: "Secret db" },
    ],
  });
});

test("all containers' parameters, of duplicates the last", () => {
  const { parameters } = describeSource("Job", exportedJob, { allContainers: true });
  expect(parameters.filter(({ container }) => container === "load")).toEqual([
    { name: "DEPTH", type: "String", default: "2", container: "load" },
    { name: "LIMIT", type: "String", default: null, container: "load", from: "Resource limits.memory" },
    { name: "MODE", type: "String", default: null, container: "load", from: "ConfigMap settings/mode" },
  ]);
});

test("a CronJob with its schedule", () => {
  expect(describeSource("CronJob", exportedCronJob)).toMatchObject({
    kind: "CronJob",
    name: "nightly",
    schedule: "0 2 * * *",
    timeZone: "Europe/Berlin",
    suspended: true,
    containers: [{ name: "main", args: ["--day", "$(DAY)"] }],
    parameters: [{ name: "DAY", type: "String", default: "1", container: "main" }],
  });
});
