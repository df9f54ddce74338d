// The page's behaviour. The address says what is searched (?q=, ?like=, ?lang=), so that Back works and links can be kept;
// a picture that was given is in the memory of this page only.

const at = (id) => document.getElementById(id);
const words = at("words"), language = at("language"), grid = at("grid"), viewer = at("viewer");
const number = new Intl.NumberFormat("en");
let status = null; // what the server says of itself
let picture = null; // a File that is searched by
let results = []; // what is shown, in order
let open = -1; // which of them is in the viewer
let running = null; // AbortController of the request that is on its way
let last = null; // what was asked, for "Try again"

const plural = (count, one) => `${number.format(count)} ${one}${count === 1 ? "" : "s"}`;

function languageName(code) {
  try {
    return new Intl.DisplayNames(["en"], { type: "language", fallback: "code" }).of(code);
  } catch {
    return code;
  }
}

async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const said = content.error ? `${content.error[0].toUpperCase()}${content.error.slice(1)}.` : `The server answers ${answer.status}.`;
    throw Object.assign(new Error(said), { final: answer.status === 400 }); // the same would be wrong again
  }
  return content;
}

function showError(error) {
  if (error.name === "AbortError") return;
  at("error-text").textContent = error.message;
  at("again").hidden = Boolean(error.final);
  at("error").hidden = false;
  at("state").textContent = "";
}

// What is asked for

function asked() {
  const query = new URLSearchParams();
  if (words.value.trim()) query.set("q", words.value.trim());
  if (like() !== null) query.set("like", like());
  if (language.value) query.set("lang", language.value);
  return query;
}

function like() {
  const value = new URLSearchParams(location.search).get("like");
  return value !== null && /^\d+$/.test(value) ? value : null;
}

function go(query, keep = true) {
  const address = query.size ? `?${query}` : location.pathname;
  if (keep && `?${query}` !== location.search) history.pushState(null, "", address);
  show();
}

async function show() {
  const query = new URLSearchParams(location.search);
  showGiven();
  results = [];
  if (!query.get("q") && !query.get("like") && !picture) return showStart();
  at("start").hidden = true;
  await load(query, 0);
}

async function load(query, start) {
  running?.abort();
  const mine = (running = new AbortController());
  last = () => load(query, start);
  at("error").hidden = true;
  document.body.classList.add("busy");
  grid.setAttribute("aria-busy", "true");
  if (!start) at("state").textContent = "Searching …";
  query = new URLSearchParams(query);
  query.set("start", start);
  try {
    const options = { signal: mine.signal };
    if (picture) Object.assign(options, { method: "POST", body: picture, headers: { "Content-Type": "application/octet-stream" } });
    const found = await ask(`api/search?${query}`, options);
    if (running === mine) showFound(found, start);
  } catch (error) {
    if (running === mine && !start) clear();
    showError(error);
  } finally {
    if (running === mine) {
      document.body.classList.remove("busy");
      grid.removeAttribute("aria-busy");
    }
  }
}

// What is shown

function clear() {
  grid.replaceChildren();
  results = [];
  at("more").hidden = true;
}

function showStart() {
  running?.abort();
  running = null;
  document.body.classList.remove("busy");
  clear();
  at("error").hidden = true;
  at("state").textContent = "";
  document.title = "Picture search";
  at("start").hidden = status === null;
  results = (status?.some ?? []).map((row) => ({ row, name: `Picture ${row}` }));
  grid.append(...results.map(card));
  setTabStop(0);
}

function showFound(found, start) {
  if (!start) clear();
  results = results.slice(0, start).concat(found.results);
  grid.append(...found.results.map((result, place) => card(result, start + place)));
  at("more").hidden = !found.more;
  const parts = [results.length ? `${plural(results.length, "picture")} of ${number.format(found.pictures)}` : "No pictures"];
  if (found.unwanted.length) parts.push(`without ${found.unwanted.join(", ")}`);
  if (found.reranked) parts.push("the best put in order by reading the words beside each picture");
  parts.push(`${found.ms < 10 ? found.ms : Math.round(found.ms)} ms`);
  at("state").textContent = parts.join(" · ");
  if (!results.length) at("state").textContent = found.pictures ? "Nothing else is there." : "The index holds no pictures yet: mlvl-search index adds some.";
  document.title = words.value.trim() ? `${words.value.trim()} – Picture search` : "Picture search";
  showEngine(found);
  if (start) focusCard(start);
  else {
    setTabStop(0);
    window.scrollTo(0, 0);
  }
}

function card(result, place) {
  const item = document.createElement("li"), button = document.createElement("button");
  const image = document.createElement("img"), score = document.createElement("span");
  button.type = "button";
  button.className = "card";
  button.tabIndex = -1;
  button.dataset.place = place;
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = `${place + 1}. ${result.name}`;
  image.addEventListener("error", () => {
    button.dataset.broken = "This picture is gone, or cannot be read any more.";
    button.classList.add("broken");
  });
  image.src = `thumb/${result.row}`;
  score.className = "score";
  score.textContent = result.score?.toFixed(3);
  score.title = "Cosine of the picture with what is searched";
  button.append(image, ...(result.score === undefined ? [] : [score]));
  item.append(button);
  return item;
}

function showEngine(about) {
  at("engine").textContent = `${plural(about.pictures, "picture")}, ${about.about}`;
}

function showGiven() {
  const row = like(), given = at("given");
  given.hidden = !picture && row === null;
  at("given-text").textContent = picture ? "Like the picture that you gave" : "Like this picture";
  at("hint").hidden = !given.hidden;
  if (given.hidden) return;
  const canvas = at("preview");
  canvas.setAttribute("aria-label", at("given-text").textContent);
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  const drawn = picture
    ? createImageBitmap(picture)
    : fetch(`thumb/${row}`).then((answer) => answer.blob()).then(createImageBitmap);
  drawn.then((image) => {
    const side = Math.min(image.width, image.height);
    const left = (image.width - side) / 2, top = (image.height - side) / 2;
    canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
  }).catch(() => {}); // a kind of picture that the browser cannot show; the server says whether it can read it
}

function give(file) {
  if (!file) return;
  if (status && file.size > status.max_upload) {
    const said = `That picture has more than ${Math.round(status.max_upload / 2 ** 20)} MiB.`;
    return showError(Object.assign(new Error(said), { final: true }));
  }
  picture = file;
  words.value = "";
  go(new URLSearchParams(language.value ? { lang: language.value } : {}));
}

function moreLike(row) {
  viewer.close();
  picture = null;
  words.value = "";
  go(new URLSearchParams({ like: row, ...(language.value && { lang: language.value }) }));
  focusCard(0);
}

// The grid by keyboard: one of its pictures is a tab stop, arrows move

function cards() {
  return [...grid.querySelectorAll(".card")];
}

function setTabStop(place) {
  cards().forEach((button, own) => (button.tabIndex = own === place ? 0 : -1));
}

function focusCard(place) {
  const button = cards()[place];
  if (!button) return;
  setTabStop(place);
  button.focus();
}

function columns() {
  const all = cards();
  const next = all.findIndex((button) => button.offsetTop > all[0].offsetTop);
  return next < 0 ? all.length : next;
}

function move(key, place) {
  const sideways = getComputedStyle(grid).direction === "rtl" ? -1 : 1;
  const step = { ArrowLeft: -sideways, ArrowRight: sideways, ArrowUp: -columns(), ArrowDown: columns() }[key];
  if (key === "Home") return 0;
  if (key === "End") return results.length - 1;
  if (key === "ArrowUp" && place + step < 0) return null; // to the words
  return Math.min(Math.max(place + step, 0), results.length - 1);
}

grid.addEventListener("keydown", (event) => {
  const button = event.target.closest(".card");
  if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
  const place = Number(button.dataset.place);
  if (/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) {
    event.preventDefault();
    const next = move(event.key, place);
    if (next === null) words.focus();
    else focusCard(next);
  } else if (event.key === "m") {
    event.preventDefault();
    moreLike(results[place].row);
  }
});
grid.addEventListener("focusin", (event) => event.target.dataset.place && setTabStop(Number(event.target.dataset.place)));
grid.addEventListener("click", (event) => {
  const button = event.target.closest(".card");
  if (button) view(Number(button.dataset.place));
});

// The viewer

function view(place) {
  open = Math.min(Math.max(place, 0), results.length - 1);
  const result = results[open];
  at("viewer-picture").src = `picture/${result.row}`;
  at("viewer-picture").alt = result.name;
  at("viewer-name").textContent = result.name;
  at("viewer-score").textContent = result.score?.toFixed(4) ?? "";
  at("before").disabled = open === 0;
  at("after").disabled = open === results.length - 1;
  if (!viewer.open) viewer.showModal();
}

viewer.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") view(open - 1);
  else if (event.key === "ArrowRight") view(open + 1);
  else if (event.key === "m") moreLike(results[open].row);
  else return;
  event.preventDefault();
});
viewer.addEventListener("close", () => {
  at("viewer-picture").removeAttribute("src");
  focusCard(open);
});
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
at("before").addEventListener("click", () => view(open - 1));
at("after").addEventListener("click", () => view(open + 1));
at("like").addEventListener("click", () => moreLike(results[open].row));
at("close").addEventListener("click", () => viewer.close());

// Words and pictures that are given

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  go(asked());
});
words.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && results.length) {
    event.preventDefault();
    focusCard(0);
  }
});
language.addEventListener("change", () => (words.value.trim() || picture || like() !== null) && go(asked()));
at("file").addEventListener("change", (event) => {
  give(event.target.files[0]);
  event.target.value = "";
});
at("drop").addEventListener("click", () => {
  picture = null;
  const query = asked();
  query.delete("like");
  go(query);
  words.focus();
});
at("more").addEventListener("click", () => load(new URLSearchParams(location.search), results.length));
at("again").addEventListener("click", () => (status ? last?.() : begin()));
document.addEventListener("paste", (event) => give([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  give([...event.dataTransfer.files].find((file) => file.type.startsWith("image/")));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !viewer.open && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName)) {
    event.preventDefault();
    words.focus();
    words.select();
  }
});
window.addEventListener("popstate", () => {
  picture = null;
  if (viewer.open) viewer.close();
  fromAddress();
  show();
});

// The beginning

function fromAddress() {
  const query = new URLSearchParams(location.search);
  words.value = query.get("q") ?? "";
  const lang = query.get("lang") ?? "";
  if ([...language.options].some((option) => option.value === lang)) language.value = lang;
}

async function begin() {
  try {
    status = await ask("api/status");
  } catch (error) {
    return showError(error);
  }
  at("count").textContent = status.pictures ? `${plural(status.pictures, "picture")}` : "No pictures yet";
  showEngine(status);
  const names = status.languages.map(languageName);
  at("languages").textContent = names.length ? `The model has learned ${names.join(", ")}.` : "";
  if (status.languages.length) {
    const any = status.needs_language ? [] : [new Option("Any language", "")];
    language.replaceChildren(...any, ...status.languages.map((code, place) => new Option(names[place], code)));
    language.hidden = false;
  }
  fromAddress();
  show();
}

begin();
