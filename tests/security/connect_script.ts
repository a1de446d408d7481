/**
 * Connects, and says how that went.
 *
 * connect_script.ts '[URL, TLS_OPTIONS]'
 */
import { connect, NuropbException } from "@nuropb/mesh";
import type { TlsOptions } from "@nuropb/mesh";
import process from "node:process";

const [url, tls]: [string, TlsOptions] = JSON.parse(process.argv[2] ?? "");

try {
  const mesh = await connect(url, { tls });
  console.log(mesh.status.state);
  await mesh.close();
} catch (error) {
  console.log(error instanceof NuropbException ? `${error.code}: ${error.message}` : error);
}
