// Live updates, times in the reader's zone, and what a keyboard wants. The page works without it.
"use strict";
(() => {
  const EVERY = 2000;
  const content = document.getElementById("content");
  const status = document.getElementById("status");
  const live = document.getElementById("live");
  if (!content || !live) return;
  live.closest("label").hidden = false;
  try { live.checked = sessionStorage.getItem("live") !== "off"; } catch { /* no storage: on */ }
  live.addEventListener("change", () => {
    try { sessionStorage.setItem("live", live.checked ? "on" : "off"); } catch { /* none */ }
    if (live.checked) look();
  });

  // Times: the text says how far away, the title when, by the reader's clock.
  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const local = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) time.title = zone.format(at) + " (" + time.dateTime + ")";
    }
  };
  // Boxes that mark all others, and the links that export, only where a script runs.
  const dress = (root) => {
    local(root);
    for (const all of root.querySelectorAll("input[data-all]")) {
      all.hidden = false;
      all.addEventListener("change", () => {
        for (const box of content.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
      });
    }
    const going = root.querySelector("form[data-go-on]");
    if (going) goOn(going);
    if (root.querySelector("[data-late]")) fetchLate(root);
  };

  // What takes more than one request: the form that goes on sends itself, until the answer is
  // another view.
  const goOn = async (form) => {
    try {
      const answer = await fetch(form.action, {
        method: "POST", body: new URLSearchParams(new FormData(form)), headers: { "x-verger-part": "1" },
      });
      if (!form.isConnected) return;
      if (answer.redirected) { location.replace(answer.url); return; }
      const text = await answer.text();
      replace(text);
    } catch {
      say("The app does not answer: what was done stays done.");
    }
  };
  // What has to be compiled to be shown, one after the other.
  const fetchLate = async (root) => {
    for (const late of root.querySelectorAll("[data-late]")) {
      try {
        const answer = await fetch(late.dataset.late, { headers: { "x-verger-part": "1" } });
        const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
        const article = parsed.querySelector("article");
        if (!article || !late.isConnected) return;
        late.replaceWith(article);
        local(article);
      } catch { return; }
    }
  };

  // Nothing is replaced under the reader's hands.
  const inUse = () => {
    const at = document.activeElement;
    const typing = at && content.contains(at) && at !== content;
    const marked = content.querySelector("input[type=checkbox]:checked");
    const reading = String(document.getSelection() || "") !== "";
    return typing || marked || reading;
  };
  let shown = null, timer = 0, failed = 0, last = "";
  const updates = /\/(jobs|schedules?|job\/\d+|charts|audit)?$/;
  const look = async () => {
    clearTimeout(timer);
    if (live.checked && !document.hidden && !inUse() && updates.test(location.pathname)) {
      try {
        const answer = await fetch(location.href, { headers: { "x-verger-part": "1" }, cache: "no-store" });
        const text = await answer.text();
        if (!answer.ok) throw new Error(String(answer.status));
        if (failed) say("");
        failed = 0;
        if (text !== last && shown === location.href && !inUse()) replace(text);
        last = text;
        shown = location.href;
      } catch {
        failed += 1;
        if (failed === 2) say("The app does not answer; this is what it said last.");
      }
    }
    timer = setTimeout(look, Math.min(EVERY * 2 ** Math.min(failed, 4), 30000));
  };
  const say = (text) => { if (status.textContent !== text) status.textContent = text; };
  const replace = (text) => {
    const open = new Set([...content.querySelectorAll("details[open][id]")].map((one) => one.id));
    const top = [...content.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    // The answer is the server's own HTML, in which all text of strangers is escaped.
    const parsed = new DOMParser().parseFromString(text, "text/html");
    content.replaceChildren(...parsed.body.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    [...content.querySelectorAll(".scroll")].forEach((one, place) => { one.scrollLeft = top[place] || 0; });
    dress(content);
  };

  // `/` goes to the first field of a search.
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (at instanceof HTMLInputElement || at instanceof HTMLSelectElement || at instanceof HTMLTextAreaElement) return;
    const field = content.querySelector("form[role=search] input, form[role=search] select");
    if (field) { event.preventDefault(); field.focus(); }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  dress(document);
  shown = location.href;
  timer = setTimeout(look, EVERY);
})();
