// Keeps an open page fresh: the daemon says that something changed, the page fetches itself and takes the new content over.
// Nothing here is needed to read the page or to act on it.
"use strict";

(() => {
  if (document.body.dataset.live === undefined) return;
  let fetching = false;
  let again = false;

  // What a person is at work on is not to be taken away.
  const isBusy = () => {
    const at = document.activeElement;
    const isField = at instanceof HTMLInputElement || at instanceof HTMLSelectElement;
    return isField || document.querySelector("details.confirm[open]") !== null;
  };

  // How to find an element again in the new content.
  const place = (element) => {
    if (!element || element === document.body || !document.getElementById("main").contains(element)) return null;
    const attribute = ["id", "href", "name"].find((one) => element.getAttribute(one));
    const same = (root) =>
      [...root.querySelectorAll(element.tagName)].filter((one) =>
        attribute ? one.getAttribute(attribute) === element.getAttribute(attribute) : one.textContent === element.textContent);
    const index = same(document.getElementById("main")).indexOf(element);
    return (root) => same(root)[index];
  };

  const swap = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const content = fresh.getElementById("main");
    const now = document.getElementById("main");
    if (!content || isBusy()) return;
    const focused = place(document.activeElement);
    const open = [...now.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...now.querySelectorAll(".wide")].map((one) => one.scrollLeft);
    const [x, y] = [window.scrollX, window.scrollY];
    document.title = fresh.title;
    now.replaceChildren(...content.childNodes);
    now.querySelectorAll("details").forEach((one, index) => { one.open = open[index] ?? one.open; });
    now.querySelectorAll(".wide").forEach((one, index) => { one.scrollLeft = scrolled[index] ?? 0; });
    focused?.(now)?.focus({ preventScroll: true });
    window.scrollTo(x, y);
  };

  const refresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(window.location.href, { credentials: "same-origin" });
      if (answer.ok) swap(await answer.text());
    } catch {
      // The daemon is away; the next event brings the page up to date.
    } finally {
      fetching = false;
      if (again) { again = false; refresh(); }
    }
  };

  let shown = document.body.dataset.live;
  const listen = () => {
    const events = new EventSource("/events");
    events.addEventListener("changed", (event) => {
      if (event.data === shown) return;
      shown = event.data;
      refresh();
    });
    return events;
  };
  let events = listen();
  // A page that nobody sees need not be told; when it is seen again, it is brought up to date.
  document.addEventListener("visibilitychange", () => {
    events.close();
    if (document.visibilityState === "visible") events = listen();
  });
})();
