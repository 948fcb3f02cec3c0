// Show what is new every three seconds, and leave open what the reader has opened.
"use strict";

async function refresh() {
  if (document.hidden || String(getSelection())) return;
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const news = page.getElementById("live");
    for (const each of news.querySelectorAll("details[open]")) each.removeAttribute("open");
    const open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
    const focused = document.activeElement?.closest("details")?.id;
    for (const id of open) news.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    document.getElementById("live").replaceWith(news);
    if (focused) document.getElementById(focused)?.querySelector("summary").focus({ preventScroll: true });
    document.title = "Mock RIS";
  } catch {
    document.title = "Mock RIS (not reachable)";
  }
}

setInterval(refresh, 3000);
