// Shows the overview anew every few seconds, while somebody looks at it. Without this script the page is the same.
"use strict";

(() => {
  const live = document.getElementById("live");
  const seconds = Number(live.dataset.seconds);

  async function refresh() {
    try {
      const response = await fetch(location.pathname, { cache: "no-cache" });
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("live");
      // what has the focus or is being selected stays as it is
      const isUsed = live.contains(document.activeElement) || !getSelection().isCollapsed;
      if (fresh && !isUsed && fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
    } catch {
      // out of reach: the next round tries again
    }
  }

  setInterval(() => document.hidden || refresh(), seconds * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
})();
