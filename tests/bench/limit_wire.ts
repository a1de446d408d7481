/**
 * The limit program with what NuroPb's protocol asks for on the wire: headers, ids, an expiration, and the fields of
 * each body.
 *
 * @module
 */
import { IdSource } from "../../src/ids.ts";
import { limitProgram } from "./limit_program.ts";
import { runProgram } from "./program.ts";

const ids = new IdSource();
const SERVICE = "bench-limit";
const METHOD = "echo";
const TTL = "30000";

runProgram(limitProgram({
  mandatory: true,
  nextId: () => ids.next(),
  properties: (type) => ({
    contentType: "application/json",
    headers: {
      nuropb_protocol: "0.1.1",
      nuropb_version: "0.1.0",
      nuropb_type: type,
      trace_id: ids.next(),
      encrypted: "",
    },
    ...(type === "response" ? {} : { expiration: TTL }),
  }),
  request: (tag, params, correlation_id) => ({
    tag,
    service: SERVICE,
    method: METHOD,
    params,
    correlation_id,
    context: {},
    trace_id: ids.next(),
  }),
  params: (body) => (body as { params: unknown }).params,
  response: (result, correlation_id, reply_to) => ({
    tag: "response",
    result,
    error: null,
    correlation_id,
    trace_id: correlation_id,
    context: {},
    warning: null,
    reply_to,
  }),
  result: (body) => (body as { result: unknown }).result,
}));
