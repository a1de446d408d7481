/**
 * Packages from Debian.
 *
 * @module
 */
import type { Found } from "./found.ts";
import { must } from "./processes.ts";
import { which } from "./runtimes.ts";

/** Whether packages can be installed here. */
export function isRoot(): boolean {
  return Deno.build.os === "linux" && Deno.uid() === 0;
}

/** The path of a command, which the package of the same name brings along where it is not there yet. */
export async function findDebianCommand(name: string): Promise<Found<string>> {
  const path = await which(name);
  if (path !== undefined) return { found: path };
  if (!isRoot()) return { missing: `install ${name}, or run as root on Debian` };
  await installDebianPackage(name);
  return { found: await which(name) ?? name };
}

let last: Promise<void> = Promise.resolve();

/** Installs a package without starting the services in it. One at a time, as apt takes a lock. */
export function installDebianPackage(name: string): Promise<void> {
  const installed = last.then(() => install(name));
  last = installed.catch(() => {});
  return installed;
}

async function install(name: string): Promise<void> {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const wait = ["-o", "DPkg::Lock::Timeout=120"];
  await must("apt-get", [...wait, "update"], { env });
  await using policy = new AsyncDisposableStack();
  const path = "/usr/sbin/policy-rc.d";
  // Debian asks this script whether to start a service; 101 is a no. One that is there already stays.
  await Deno.writeTextFile(path, "#!/bin/sh\nexit 101\n", { createNew: true, mode: 0o755 })
    .then(() => policy.defer(() => Deno.remove(path)), () => {});
  await must("apt-get", [...wait, "install", "-y", "--no-install-recommends", name], { env });
}
