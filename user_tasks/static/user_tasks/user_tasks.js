/* <user-task src> and <user-tasks src>: elements that keep what the server rendered in them up to date. */

const SOONEST = 1000; // milliseconds between two looks at what moves
const LATEST = 10000; // at what does not
const IDLE = 30000; // at a tray in which nothing runs
const PATIENCE = 60000; // after errors
const TIMEOUT = 20000;
const SLOWER = 1.4;
const REFUSED = [401, 403, 404, 410];

// XMLHttpRequest parses HTML by itself, so Trusted Types may be enforced, and shows a 304 as it is.
const load = (url, etag) =>
  new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = TIMEOUT;
    if (etag) request.setRequestHeader("If-None-Match", etag);
    request.onloadend = () => resolve(request);
    request.send();
  });

const waitAskedFor = (request) => {
  const value = request.getResponseHeader("Retry-After");
  if (!value) return 0;
  const wait = /^\d+$/.test(value) ? value * 1000 : Date.parse(value) - Date.now();
  return Math.max(wait || 0, 0);
};

const isSame = (one, other) => one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;

/* Change `node` into `model`, and keep what did not change: the focus, the selection, what has been opened. */
const morph = (node, model) => {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== model.data) node.data = model.data;
    return;
  }
  if (node instanceof Live) return;
  const isKept = (name) => name === "open" && node.nodeName === "DETAILS";
  for (const { name } of [...node.attributes]) {
    if (!model.hasAttribute(name) && !isKept(name)) node.removeAttribute(name);
  }
  for (const { name, value } of model.attributes) {
    if (node.getAttribute(name) !== value && !isKept(name)) node.setAttribute(name, value);
  }
  morphChildren(node, model);
};

const morphChildren = (node, model) => {
  let next = node.firstChild;
  for (const wanted of [...model.childNodes]) {
    let found = next;
    while (found && !isSame(found, wanted)) found = found.nextSibling;
    if (!found) {
      node.insertBefore(wanted, next);
    } else {
      if (found === next) next = next.nextSibling;
      else node.insertBefore(found, next);
      morph(found, wanted);
    }
  }
  while (next) {
    const surplus = next;
    next = next.nextSibling;
    surplus.remove();
  }
};

class Live extends HTMLElement {
  #etag = null;
  #delay = SOONEST;
  #errors = 0;
  #timer = 0;
  #loading = false;
  #gone = false;
  #known = new Map();

  connectedCallback() {
    this.#known = this.#tasks();
    for (const type of ["visibilitychange", "toggle"]) document.addEventListener(type, this, true);
    for (const type of ["online", "focus"]) addEventListener(type, this);
    this.#schedule();
  }

  disconnectedCallback() {
    for (const type of ["visibilitychange", "toggle"]) document.removeEventListener(type, this, true);
    for (const type of ["online", "focus"]) removeEventListener(type, this);
    clearTimeout(this.#timer);
  }

  handleEvent(event) {
    if (event.type === "toggle" && !event.target.contains(this)) return;
    if (this.#isLive) this.refresh();
  }

  /* Look now, unless nobody would see it. */
  async refresh() {
    clearTimeout(this.#timer);
    if (this.#loading || this.#gone || this.#isPaused) return;
    this.#loading = true;
    const request = await load(this.getAttribute("src"), this.#etag);
    this.#loading = false;
    this.#receive(request);
    this.#delay = Math.max(this.#delay, waitAskedFor(request));
    this.#schedule();
  }

  get #content() {
    return this.querySelector("[data-fragment]");
  }

  get #moves() {
    return !this.#content || this.#content.hasAttribute("data-live");
  }

  get #isLive() {
    return !this.#gone && (this.#moves || this.localName === "user-tasks");
  }

  get #isPaused() {
    return !this.isConnected || document.hidden || Boolean(this.closest("details:not([open])"));
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#isLive || this.#isPaused) return;
    const delay = this.#content ? Math.max(this.#delay, this.#moves ? 0 : IDLE) * (0.9 + Math.random() / 5) : 0;
    this.#timer = setTimeout(() => this.refresh(), delay);
  }

  #receive(request) {
    const fragment = request.status === 200 && request.response?.querySelector("[data-fragment]");
    if (fragment) {
      this.#etag = request.getResponseHeader("ETag");
      this.#show(fragment);
    }
    if (fragment || request.status === 304) {
      this.#errors = 0;
      this.#delay = fragment ? SOONEST : Math.min(this.#delay * SLOWER, LATEST);
    } else if (request.status === 200 || REFUSED.includes(request.status)) {
      this.#gone = true;
    } else {
      this.#errors += 1;
      this.#delay = Math.min(SOONEST * 2 ** this.#errors, PATIENCE);
    }
    this.#note("lost", this.#errors > 1);
    this.#note("gone", this.#gone);
  }

  #show(fragment) {
    const focused = this.contains(document.activeElement) && document.activeElement;
    if (this.#content) morph(this.#content, fragment);
    else this.replaceChildren(fragment);
    if (focused && !focused.isConnected) this.querySelector("[tabindex]")?.focus();
    this.#tell();
  }

  #note(when, isShown) {
    for (const note of this.querySelectorAll(`[data-when=${when}]`)) note.hidden = !isShown;
  }

  #tasks() {
    const own = [...this.querySelectorAll("[data-task]")].filter((node) => node.closest("user-task,user-tasks") === this);
    return new Map(
      own.map((node) => {
        const { task: uuid, state, completed, total, live } = node.dataset;
        const detail = { uuid, state, completed: Number(completed), total: Number(total), live: live !== undefined };
        return [uuid, { node, detail }];
      }),
    );
  }

  #tell() {
    const before = this.#known;
    this.#known = this.#tasks();
    for (const [uuid, { node, detail }] of this.#known) {
      const earlier = before.get(uuid)?.detail;
      if (!earlier || JSON.stringify(earlier) === JSON.stringify(detail)) continue;
      const send = (type) => node.dispatchEvent(new CustomEvent(type, { bubbles: true, composed: true, detail }));
      send("user-task:progress");
      if (earlier.live && !detail.live) send("user-task:stopped");
    }
  }
}

customElements.define("user-task", class extends Live {});
customElements.define("user-tasks", class extends Live {});
