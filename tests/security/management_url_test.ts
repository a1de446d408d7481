import assert from "node:assert/strict";
import { inspect } from "node:util";
import { NuropbValidationError, setupMesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { failure } from "../conformance/stage.ts";

const PASSWORD = "open-sesame";

describe("a management url with a password in it", () => {
  const urls = [
    `http://admin:${PASSWORD}@127.0.0.1:1`,
    `//admin:${PASSWORD}@127.0.0.1:1`,
    `http://admin:${PASSWORD}@ho st`,
  ];

  for (const managementUrl of urls) {
    it(`is refused and not shown: ${managementUrl.replace(PASSWORD, "…")}`, async () => {
      const setUp = () => setupMesh("amqp://127.0.0.1:1/mesh", { managementUrl });
      const error = await failure(NuropbValidationError, setUp);
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.match(error.message, /managementUrl/);
      assert.ok(
        !inspect(error, { depth: Infinity, showHidden: true }).includes(PASSWORD),
        "The password is shown",
      );
    });
  }
});
