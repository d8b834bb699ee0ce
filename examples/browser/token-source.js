// Get a valid credential for a MoQ relay. Copy this file into your project.
//
//   import * as Moq from "@moq/net";
//   import { TokenSource } from "./token-source.js";
//
//   const source = new TokenSource("/rooms/123/token");
//   const connection = await source.connect(Moq);
//
// The token endpoint answers a POST with {url, token, expires_in}. Make one
// source for each room and user, and ask it before each connection. It renews
// the credential after 70 to 85 % of its lifetime, with one request for all
// callers, and keeps it while the endpoint does not answer.

/** The endpoint refuses: the user is not signed in, or may not enter. */
export class RefusedError extends Error {
  constructor(status, message) {
    super(message ?? `the token endpoint answered ${status}`);
    this.name = "RefusedError";
    this.status = status;
  }
}

/** A slow renewal delays nobody for longer while the credential is valid. */
const patience = (credential) =>
  new Promise((resolve) => setTimeout(resolve, 1000, credential));

export class TokenSource {
  #url;
  #options;
  #credential;
  // Times on the clock. A clock that was set back makes them unreachable, so
  // that a renewal also starts before `#askedAt`.
  #askedAt = 0;
  #renewAt = 0;
  #endsAt = 0;
  #failedAt = 0;
  #retryAt = 0;
  #failures = 0;
  #error;
  #pending;

  /**
   * @param url the URL of the token endpoint
   * @param options.body the JSON object to send, such as {room_name: "123"}
   * @param options.headers header fields, such as {"X-CSRFToken": …}
   * @param options.credentials "include" sends cookies to another origin
   * @param options.timeout milliseconds that a request may take
   * @param options.now a clock in milliseconds
   */
  constructor(url, options = {}) {
    this.#url = url;
    this.#options = { timeout: 10_000, now: Date.now, ...options };
  }

  /** Return {url, token, …}. Rejects if no credential is valid. */
  async get() {
    const now = this.#options.now();
    const good = now < this.#endsAt ? this.#credential : undefined;
    if (good && this.#askedAt <= now && now < this.#renewAt) return good;
    if (this.#failedAt <= now && now < this.#retryAt) {
      if (good) return good;
      throw this.#error;
    }
    this.#pending ??= this.#renew().finally(() => {
      this.#pending = undefined;
    });
    try {
      if (!good) return await this.#pending;
      return await Promise.race([this.#pending, patience(good)]);
    } catch (error) {
      if (good && !(error instanceof RefusedError)) return good;
      throw error;
    }
  }

  /** Connect with @moq/net. The options are those of its `connect`. */
  async connect(Moq, options) {
    const { url } = await this.get();
    return Moq.Connection.connect(new URL(url), options);
  }

  /** Drop the credential, because a relay has refused it. */
  forget() {
    this.#credential = undefined;
    this.#endsAt = 0;
  }

  async #renew() {
    const asked = this.#options.now();
    try {
      const credential = await this.#fetch();
      // Not `expires`: the clock of this machine may be wrong.
      const lifetime = credential.expires_in * 1000;
      this.#credential = credential;
      this.#askedAt = asked;
      this.#renewAt = asked + lifetime * (0.7 + 0.15 * Math.random());
      this.#endsAt = asked + lifetime - Math.min(5000, lifetime / 10);
      this.#failures = 0;
      this.#retryAt = 0;
      return credential;
    } catch (error) {
      if (error instanceof RefusedError) this.forget();
      const backoff = Math.min(1000 * 2 ** this.#failures++, 30_000);
      const wait = error.retryAfter ?? (backoff * (1 + Math.random())) / 2;
      this.#failedAt = this.#options.now();
      this.#retryAt = this.#failedAt + wait;
      this.#error = error;
      throw error;
    }
  }

  async #fetch() {
    const { body = {}, headers, credentials, timeout } = this.#options;
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      cache: "no-store",
      credentials: credentials ?? "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(timeout),
    });
    if (response.status === 401 || response.status === 403) {
      const answer = await response.json().catch(() => null);
      const message = answer?.error?.message ?? answer?.detail; // of FastAPI
      throw new RefusedError(response.status, message);
    }
    if (!response.ok) {
      const error = new Error(`the token endpoint answered ${response.status}`);
      const seconds = Number(response.headers.get("Retry-After"));
      if (seconds > 0) error.retryAfter = Math.min(seconds, 300) * 1000;
      throw error;
    }
    const credential = await response.json();
    if (!credential?.url || !(credential.expires_in > 0)) {
      throw new Error("the token endpoint sent no credential");
    }
    return credential;
  }
}
