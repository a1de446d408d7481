/**
 * Calls a service over the url that it is given, and prints the answer, or the error's code.
 *
 * @module
 */
import process from "node:process";
import { connect, NuropbTransportError } from "@nuropb/mesh";

const [url = "", service = ""] = process.argv.slice(2);
try {
  const mesh = await connect(url);
  console.log(`answer: ${await mesh.request(service, "hello")}`);
  await mesh.close();
} catch (error) {
  if (!(error instanceof NuropbTransportError)) throw error;
  console.log(`error: ${error.code}`);
}
