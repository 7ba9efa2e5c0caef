import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Test files in the order of their names: the tests on a cluster install first and uninstall last. */
export class FileOrder extends BaseSequencer {
  override sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return Promise.resolve(files.toSorted((a, b) => a.moduleId.localeCompare(b.moduleId)));
  }
}
