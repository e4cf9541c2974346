// The stream of figures, and how they get into the page. Text goes in as text, never as markup.

const $ = id => document.getElementById(id);
const SPANS = [60, 120, 300];  // points that are shown, at least those that there are
const view = {fields: [], points: [], kept: 300, shown: 60, interval: 1, timesHandlers: false, now: null};

const CODES = {
  1000: "normal", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1005: "no code", 1006: "connection lost",
  1007: "invalid data", 1008: "policy", 1009: "too big", 1010: "extension missing", 1011: "internal error", 1012: "service restart",
  1013: "try again later", 1014: "bad gateway", 1015: "TLS",
};

const one = (field, name, colour, filled = false) => ({field, name, colour, filled});
for (const [title, unit, series, least] of [
  ["Open connections", "count", [one("websockets", "WebSockets", "a", true), one("http", "HTTP", "b")], 4],
  ["Messages per second", "rate", [one("messages_in", "in", "a", true), one("messages_out", "out", "b")], 4],
  ["Payload per second", "byterate", [one("bytes_in", "in", "a", true), one("bytes_out", "out", "b")], 1000],
  ["Time in the message handler", "time", [one("handler_p50", "median", "a", true), one("handler_p99", "99 %", "b")], 100],
  ["Lag of the event loop", "time", [one("lag_p50", "median", "a", true), one("lag_max", "longest", "b")], 100],
  ["CPU of the loop's thread", "percent", [one("cpu", "of one core", "a", true)], 1],
  ["Waiting for slow peers", "bytes", [one("buffered", "in memory", "a", true)], 1000],
  ["Sends that met a limit, per second", "rate", [one("backpressured", "queued", "a", true), one("dropped", "dropped", "bad")], 4],
  ["Publishes and requests per second", "rate", [one("publishes", "publishes", "a", true), one("requests", "requests", "b")], 4],
  ["Opened and closed per second", "rate", [one("opened", "opened", "a", true), one("closed", "closed", "b")], 4],
  ["Exceptions and refusals per second", "rate", [one("errors", "exceptions", "bad", true), one("refused", "refused", "b")], 4],
  ["Memory of the process", "bytes", [one("memory", "resident", "a", true)], 1e6],
]) new Chart($("charts"), title, unit, series, least);

// --- tables ---

// rows: of cells, a text or {text, class, share}. Rows are used again, so that a selection stays.
function fill(id, rows) {
  const body = $(id).tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, r) => {
    const row = body.rows[r] ?? body.insertRow();
    cells.forEach((cell, c) => {
      const td = row.cells[c] ?? row.insertCell();
      const {text, style = "", share = null} = typeof cell === "object" ? cell : {text: cell};
      if (td.textContent !== text) td.textContent = text;
      td.className = style;
      if (share !== null) td.style.setProperty("--share", `${(share * 100).toFixed(1)}%`);
    });
  });
  const none = $(`no-${id}`);
  if (none) {
    none.hidden = rows.length > 0;
    $(id).hidden = rows.length === 0;
  }
}

const number = (value, unit = "count", style = "n") => ({text: format(value, unit), style});

// --- topics: those that the feed sends to every viewer, or the first of a search or an order, made by the server ---

const wanted = {search: "", sort: ""};  // by the reader; both empty: what the feed sends
let asked = 0;  // the number of the last question: a late answer to an earlier one is dropped

function showTopics(topics, text) {
  const most = Math.max(1, ...topics.map(topic => topic.subscribers));
  fill("topics", topics.map(topic => [
    {text: topic.name, style: "share", share: topic.subscribers / most},
    number(topic.subscribers), number(topic.publishes), number(topic.rate, "rate"),
  ]));
  $("topics-count").textContent = text;
}

async function askForTopics() {
  const mine = ++asked, query = new URLSearchParams({topics: "", ...wanted});
  const answer = await fetch(`${location.pathname}?${query}`).catch(() => null);
  if (answer?.status !== 200 || mine !== asked) return;  // gone, or asked too soon: the next sample asks again
  const {topics, matches} = await answer.json();
  if (mine !== asked) return;
  $("no-topics").textContent = wanted.search ? "No topic has that in its name." : "No socket subscribes to a topic.";
  const first = matches > topics.length ? `the first ${topics.length} of ` : "";
  showTopics(topics, `${first}${format(matches, "count")}${wanted.search ? " found" : ""}`);
}

function topicsOf(now) {
  if (wanted.search || wanted.sort) {
    askForTopics();
    return;
  }
  const count = format(now.topics_count, "count");
  $("no-topics").textContent = "No socket subscribes to a topic.";
  showTopics(now.topics, now.topics_count > now.topics.length ? `the ${now.topics.length} largest and busiest of ${count}` : "");
}

function want(change) {
  Object.assign(wanted, change);
  asked++;
  if (view.now) topicsOf(view.now);
}

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => want({search: $("search").value.trim()}), 150);
});
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const sort = head.dataset.sort === wanted.sort ? "" : head.dataset.sort;  // once more: as it was
    for (const other of document.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    if (sort) head.setAttribute("aria-sort", sort === "name" ? "ascending" : "descending");
    want({sort});
  });
}

// On a phone the lists are closed until they are asked for.
const narrow = matchMedia("(max-width: 640px)");
const fold = () => document.querySelectorAll("details.less").forEach(list => { list.open = !narrow.matches; });
narrow.addEventListener("change", fold);
fold();

function tables(now) {
  view.now = now;
  topicsOf(now);
  const closed = Math.max(1, ...now.closes.map(([, count]) => count));
  fill("closes", now.closes.map(([code, count]) => [
    {text: `${code} ${CODES[code] ?? (code < 4000 ? "registered" : "application")}`, style: "share", share: count / closed},
    number(count),
  ]));
  fill("refused", [
    ...Object.entries(now.errors).map(([place, count]) => [{text: `exceptions in ${place}`, style: "bad"}, number(count, "count", "n bad")]),
    ...Object.entries(now.refused).map(([cause, count]) => [cause.replaceAll("_", " "), number(count)]),
  ]);
  const total = now.totals;
  fill("totals", [
    ["Connections", number(total.connections)],
    ["HTTP requests", number(total.requests)],
    ["WebSockets", number(total.upgrades)],
    ["Handshakes declined", number(total.declined)],
    ["Messages received", number(total.received)],
    ["Messages sent", number(total.sent)],
    ["Publishes", number(total.publishes)],
    ["Sends dropped", number(total.dropped, "count", total.dropped ? "n bad" : "n")],
    ["Bytes read", number(total.wire_in, "bytes")],
    ["Bytes written", number(total.wire_out, "bytes")],
  ]);
}

function facts(now) {
  const parts = [`up ${duration(now.uptime)}`];
  const pending = now.pending - now.viewers;  // each viewer's stream is one
  if (pending > 0) parts.push(`${pending} pending requests`);
  if (now.viewers > 1) parts.push(`${now.viewers} viewers`);
  $("facts").textContent = [...parts, `version ${view.server.version}`, `process ${view.server.process}`].join("  ·  ");
}

// --- the stream ---

function state(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
}

function take(message) {
  if (message.type === "hello") {
    view.server = message.server;
    view.fields = message.fields;
    view.points = message.points;
    view.kept = message.kept;
    view.interval = message.interval;
    view.timesHandlers = message.times_handlers;
    const {id, url} = message.server;
    $("where").textContent = id ? `${id}  ·  ${url}` : url;
    document.title = `${id || location.host} · uwserve`;
  } else if (message.point) {
    view.points.push(message.point);
    if (view.points.length > view.kept) view.points.shift();
    if (pointed !== null && --pointed < 0) pointed = null;
  }
  view.shown = SPANS.find(span => span >= view.points.length) ?? view.kept;
  tables(message);
  facts(message);
  if (!document.hidden) drawAll();
}

let attempts = 0;
function connect() {
  const stream = new EventSource(location.pathname.replace(/\/$/, "") + "/stream");
  // By our own clock: EventSource does not come back after a response that is no stream.
  const again = why => {
    clearTimeout(watchdog);
    stream.close();
    const isFirst = attempts === 0, seconds = Math.min(10, 0.5 * 2 ** attempts++);
    state(isFirst && !why ? "waiting" : "gone", why ?? (isFirst ? "reconnecting" : "not reachable"));
    setTimeout(connect, seconds * 1000);
  };
  // A server that has lost its power says nothing: samples are a second apart.
  let watchdog = setTimeout(again, 10000);
  stream.onopen = () => { attempts = 0; };
  stream.onmessage = ({data}) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(again, 10000, "silent");
    state("live", "live");
    take(JSON.parse(data));
  };
  stream.onerror = () => again();
}

document.addEventListener("visibilitychange", drawAll);
connect();
