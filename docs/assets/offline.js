// The search runs in a worker, and a page that is opened from a disk may start none: there, run it in a frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inner = this.frame.contentWindow;
      inner.document.open();
      inner.document.write("<!doctype html><title>search</title>");
      inner.document.close();
      inner.postMessage = (message) => {
        const data = structuredClone(message);
        setTimeout(() => this.onmessage?.({ data }));
      };
      const script = inner.document.createElement("script");
      script.src = url;
      script.onerror = (event) => this.onerror?.(event);
      script.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      };
      inner.document.head.append(script);
    }

    postMessage(message) {
      const data = structuredClone(message); // as a worker gets it: neither side changes what the other has
      if (this.waiting) {
        this.waiting.push(data);
      } else {
        setTimeout(() => this.frame.contentWindow?.onmessage({ data }));
      }
    }

    terminate() {
      this.frame.remove();
    }
  };
}
