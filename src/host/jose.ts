/**
 * The part of jose that checks bearer tokens: a module of its own, for `bearer()` to load.
 *
 * @module
 */
export { createLocalJWKSet, createRemoteJWKSet, errors, importJWK, importSPKI, jwtVerify } from "jose";
