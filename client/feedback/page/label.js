// Keys of one letter, dialogs, and where the focus goes when a new question comes. Everything else works without this file.
"use strict";
(function () {
  const open = (id) => { const dialog = document.getElementById(id); if (dialog && !dialog.open) dialog.showModal(); };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-opens], [data-closes]");
    if (!button) return;
    if (button.dataset.opens) open(button.dataset.opens);
    else document.getElementById(button.dataset.closes).close();
  });

  document.addEventListener("keydown", (event) => {
    if (document.documentElement.dataset.keys !== "on") return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
    const within = event.target.closest("input, textarea, select");
    if (within && within.type !== "checkbox" && within.type !== "radio") return;
    if (within && /^[0-9]$/.test(event.key)) return;
    const key = event.key.toLowerCase();
    if (key === "g") { event.preventDefault(); return open("guidelines"); }
    if (key === "?") { event.preventDefault(); return open("keys"); }
    if (key === "e") {
      const remarks = document.getElementById("remarks");
      if (remarks) { event.preventDefault(); remarks.open = true; remarks.querySelector("input").focus(); }
      return;
    }
    const button = document.querySelector(`main [data-key="${CSS.escape(key)}"]`);
    if (button && !button.disabled) { event.preventDefault(); button.click(); }
  });

  // A second press while the first is on its way must not answer the question that comes next.
  document.addEventListener("htmx:beforeRequest", () => document.documentElement.setAttribute("aria-busy", "true"));
  document.addEventListener("htmx:afterRequest", () => document.documentElement.removeAttribute("aria-busy"));
  document.addEventListener("htmx:afterSwap", () => {
    window.scrollTo(0, 0);
    const heading = document.getElementById("question");
    if (heading) heading.focus({ preventScroll: true });
  });
  // When the machine does not answer, nothing was stored for sure: load the page as it is.
  document.addEventListener("htmx:sendError", () => window.location.reload());
  document.addEventListener("htmx:responseError", () => window.location.reload());
})();
