// Keeps the page fresh, asks before it acts, and lets the keyboard do everything. All it does goes through the API.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);

async function call(method, url, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(url, options);
  const text = await answer.text();
  const content = text ? JSON.parse(text) : null;
  if (answer.ok) return content;
  if (answer.status === 401 && location.pathname !== "/login") location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  const detail = content?.detail;
  throw new Error(typeof detail === "string" ? detail : detail?.[0]?.msg ?? `The console answered ${answer.status}.`);
}

// -- fresh

function busy() {
  const here = document.activeElement;
  return document.hidden || $("dialog[open]") || String(getSelection()) || (here?.closest("main") && here.matches("input, select, textarea"));
}

let failed = 0;

async function refresh() {
  const live = $("#live");
  const every = Number(live.dataset.live);
  if (!every) return;
  if (!busy()) {
    const fresh = $("#fresh");
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Medai-Refresh": "1" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.assign(answer.url);
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!busy()) replace(live, $("#live", page));
      failed = 0;
      fresh.className = "";
      fresh.textContent = `up to date at ${new Date().toLocaleTimeString()}`;
    } catch {
      failed += 1;
      fresh.className = "stale";
      fresh.textContent = "the console does not answer: this page is out of date";
    }
  }
  setTimeout(refresh, Math.min(every * 1000 * 2 ** failed, 30000));
}

function replace(live, news) {
  if (live.dataset.was === news.innerHTML) return;
  news.dataset.was = news.innerHTML;
  const focused = document.activeElement?.dataset?.post;
  const patient = $("#patient")?.textContent;
  for (const image of live.querySelectorAll("img[src]")) {
    const same = $(`img[src="${CSS.escape(image.getAttribute("src"))}"]`, news);
    if (same) same.replaceWith(image); // or it would flicker
  }
  for (const kept of live.querySelectorAll("[data-keep][open]")) $(`[data-keep="${CSS.escape(kept.dataset.keep)}"]`, news)?.replaceWith(kept);
  live.replaceWith(news);
  if (focused) $(`[data-post="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (patient && $("#patient")) $("#patient").textContent = patient;
}

// -- act

function ask(button) {
  const dialog = $("#ask");
  const { ask: title, text, reason } = button.dataset;
  $("#ask-title").textContent = title;
  $("#ask-text").textContent = text ?? "";
  $("#ask-fault").textContent = "";
  $("#ask-yes").textContent = button.textContent.trim();
  $("#ask-reason").hidden = !reason;
  const field = $("[name=reason]", dialog);
  field.value = "";
  dialog.showModal();
  (reason ? field : $("[value=no]", dialog)).focus();
  return new Promise((resolve) => {
    $("form", dialog).onsubmit = (event) => {
      if (event.submitter?.value !== "yes") return resolve(false);
      event.preventDefault();
      if (reason && field.value.trim().length < 3) {
        $("#ask-fault").textContent = "Please give a reason: it is kept.";
        return;
      }
      resolve(reason ? { reason: field.value.trim() } : {});
    };
    dialog.oncancel = () => resolve(false);
  });
}

async function act(button) {
  const dialog = $("#ask");
  for (;;) {
    const given = button.dataset.ask ? await ask(button) : {};
    if (given === false) return dialog.close();
    const body = button.dataset.body ? { ...JSON.parse(button.dataset.body), ...given } : button.dataset.reason ? given : undefined;
    try {
      const answer = await call(button.dataset.method ?? "POST", button.dataset.post, body);
      if (dialog.open) dialog.close();
      return location.assign(answer?.then ?? button.dataset.then ?? location.href);
    } catch (error) {
      if (!button.dataset.ask) return alert(error.message);
      $("#ask-fault").textContent = error.message;
      $("#ask-yes").disabled = true;
      await new Promise((resolve) => { dialog.onclose = resolve; $("form", dialog).onsubmit = null; });
      $("#ask-yes").disabled = false;
      return;
    }
  }
}

async function showPatient(button) {
  try {
    const who = await call("GET", button.dataset.patient);
    $("#patient").textContent = [who.name, who.id, who.birth_date, who.sex].filter(Boolean).join(" · ");
  } catch (error) {
    $("#patient").textContent = error.message;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.post) act(button);
  if (button?.dataset.patient) showPatient(button);
});

// -- forms

function contentOf(form) {
  const content = {};
  for (const field of form.elements) {
    if (field.name && field.value) content[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  return content;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.send) return;
  event.preventDefault();
  const button = $("button", form);
  button.disabled = true; // two clicks are one act
  $(".fault", form).textContent = "";
  try {
    const answer = await call("POST", form.dataset.send, contentOf(form));
    if (!form.dataset.shows) return location.assign(form.dataset.then);
    const shown = $(form.dataset.shows);
    form.hidden = $(form.dataset.hides).hidden = true; // the list is that of before
    shown.hidden = false;
    $("input", shown).value = answer.token;
    $("input", shown).select();
  } catch (error) {
    $(".fault", form).textContent = error.message;
    button.disabled = false;
  }
});

// -- log in

$("#login")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    await call("POST", "/api/login", Object.fromEntries(new FormData(form)));
    location.assign(form.dataset.then); // the server has seen that it is a page of ours
  } catch (error) {
    $(".fault", form).textContent = error.message;
    form.password.select();
  }
});

// -- the rule tester

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function verdictOf(verdict) {
  const card = element("section", undefined, "card");
  const title = element("h2");
  title.append(element("span", verdict.matched ? "✓ reads it" : "✗ does not read it", `badge ${verdict.matched ? "good" : "plain"}`), ` ${verdict.route}`);
  card.append(title, element("p", verdict.reason));
  if (verdict.series.length) {
    const table = element("table");
    for (const each of verdict.series) {
      const row = table.insertRow();
      row.insertCell().textContent = each.series;
      row.insertCell().append(element("span", each.taken ? "✓ chosen" : each.qualifies ? "qualifies" : "✗ no", `badge ${each.taken ? "good" : "plain"}`));
      row.insertCell().textContent = each.reason;
    }
    card.append(table);
  }
  return card;
}

$("#rule-test")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const fault = $(".fault", form);
  fault.textContent = "";
  $("#verdicts").replaceChildren();
  try {
    const test = form.study_id.value ? { study_id: Number(form.study_id.value) } : { study: JSON.parse(form.study.value) };
    if (form.routes.value.trim()) test.routes = form.routes.value;
    const verdicts = await call("POST", "/api/rules/test", test);
    $("#verdicts").append(...verdicts.map(verdictOf));
    if (!verdicts.length) fault.textContent = "There is no route to try.";
  } catch (error) {
    fault.textContent = error instanceof SyntaxError ? `The study is not valid JSON: ${error.message}` : error.message;
  }
});

// -- keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("nav input")?.focus();
  } else if (/^[a-z]$/.test(event.key)) {
    $(`nav a[data-key="${event.key}"]`)?.click();
  }
});

refresh();
