/**
 * The limit program with the payload alone on the wire.
 *
 * @module
 */
import { limitProgram } from "./limit_program.ts";
import { runProgram } from "./program.ts";

let last = 0;

runProgram(limitProgram({
  mandatory: false,
  nextId: () => (++last).toString(36),
  properties: () => ({}),
  request: (_type, payload) => payload,
  params: (body) => body,
  response: (result) => result,
  result: (body) => body,
}));
