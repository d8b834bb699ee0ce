// The libraries for node as contenders. Each line in is a request: `{"algorithm": ..., "key": <JWK text>}` prepares all
// libraries that know the algorithm and is answered by their names; `{"name": ..., "operation": ..., "items": [...]}` is
// answered by `{"seconds": <for one item>, "last": <the last result>}`, or by `{"error": ...}`.

import { createPrivateKey, createPublicKey, createSecretKey } from "node:crypto";
import { createInterface } from "node:readline";
import { load, sign as moqSign, toPublicKey, verify as moqVerify } from "@moq/token";
import { createSigner, createVerifier } from "fast-jwt";
import { jwtVerify, SignJWT } from "jose";
import jsonwebtoken from "jsonwebtoken";

const ROOT = "rooms/123"; // as in fixtures.py: one library wants to be told what it will find
const WARM_UP_MS = 150;

// Each library as it is used well: the key prepared once, the algorithm fixed, `iat` taken from the claims.
async function prepare(algorithm, text) {
	const jwk = JSON.parse(text);
	const symmetric = jwk.kty === "oct";
	const secret = symmetric && Buffer.from(jwk.k, "base64url");
	const [privateKey, publicKey] = symmetric
		? [createSecretKey(secret), createSecretKey(secret)]
		: [createPrivateKey({ key: jwk, format: "jwk" }), createPublicKey({ key: jwk, format: "jwk" })];

	// jose converts a key of Node.js into one of the Web Crypto API: once if it has two halves, a secret at each call.
	const hmac = { name: "HMAC", hash: `SHA-${algorithm.slice(2)}` };
	const webSecret = symmetric && (await crypto.subtle.importKey("raw", secret, hmac, false, ["sign", "verify"]));

	const key = load(text);
	const moqPublic = symmetric ? key : toPublicKey(key);
	const pem = (half, type) => (symmetric ? secret : half.export({ type, format: "pem" }));
	const algorithms = [algorithm];
	const header = { typ: "JWT", alg: algorithm, kid: jwk.kid };
	const options = { algorithm, keyid: jwk.kid };
	const libraries = {
		"@moq/token": {
			sign: (claims) => moqSign(key, claims),
			verify: (token) => moqVerify(moqPublic, token, ROOT),
		},
		jose: {
			sign: (claims) => new SignJWT(claims).setProtectedHeader(header).sign(webSecret || privateKey),
			verify: (token) => jwtVerify(token, webSecret || publicKey, { algorithms }),
		},
		"fast-jwt": {
			sign: createSigner({ key: pem(privateKey, "pkcs8"), algorithm, kid: jwk.kid }),
			verify: createVerifier({ key: pem(publicKey, "spki"), algorithms, cache: false }),
		},
	};
	if (algorithm !== "EdDSA") {
		libraries.jsonwebtoken = {
			sign: (claims) => jsonwebtoken.sign(claims, privateKey, options),
			verify: (token) => jsonwebtoken.verify(token, publicKey, { algorithms }),
		};
	}
	return libraries;
}

const awaited = new Set(["@moq/token", "jose"]);
const claims = (item) => ({ root: item[0], put: [item[1]], get: [item[2]], exp: item[3], iat: item[4] });

const loops = {
	sign(call, items) {
		let last;
		for (let i = 0; i < items.length; i++) last = call(claims(items[i]));
		return last;
	},
	verify(call, items) {
		let last;
		for (let i = 0; i < items.length; i++) last = call(items[i]);
		return last;
	},
	async signAwaited(call, items) {
		let last;
		for (let i = 0; i < items.length; i++) last = await call(claims(items[i]));
		return last;
	},
	async verifyAwaited(call, items) {
		let last;
		for (let i = 0; i < items.length; i++) last = await call(items[i]);
		return last;
	},
};

// The engine compiles what runs often; what is measured is the state after that.
async function warmUp({ sign, verify }) {
	const start = Date.now();
	for (let n = 0; Date.now() - start < WARM_UP_MS; n++) {
		await verify(await sign(claims([ROOT, `warm-up-${n}`, "", 2_000_000_000 + n, 1_700_000_000 + n])));
	}
}

let libraries = {};

async function answer({ algorithm, key, name, operation, items }) {
	if (key) {
		libraries = await prepare(algorithm, key);
		for (const library of Object.values(libraries)) await warmUp(library);
		return Object.keys(libraries);
	}
	const call = libraries[name][operation];
	const start = process.hrtime.bigint();
	const last = awaited.has(name) ? await loops[`${operation}Awaited`](call, items) : loops[operation](call, items);
	return { seconds: Number(process.hrtime.bigint() - start) / 1e9 / items.length, last };
}

for await (const line of createInterface({ input: process.stdin })) {
	let result;
	try {
		result = await answer(JSON.parse(line));
	} catch (error) {
		result = { error: error.message };
	}
	process.stdout.write(`${JSON.stringify(result)}\n`);
}
