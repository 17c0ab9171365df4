// Shows the samples of the page as text, a few questions at a time. Whatever models wrote goes through textContent.
(() => {
  "use strict";
  const PER_PAGE = 5; // questions
  const FOLD = 900; // characters of a completion that are shown at first: its start and its end

  const find = (id) => document.getElementById(id);
  const { models, benchmarks, questions } = JSON.parse(find("samples").textContent);
  const control = (id) => { const found = find(id); return found ? found.value : ""; };
  let page = 0;

  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const address = (question) => `q=${benchmarks[question.b]}/${question.id}`;
  const verdict = (sample) => (sample.v === null ? "not judged" : sample.v ? "right" : "wrong");
  const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  // models disagree where one is right on a sample and another is wrong on one
  const disagree = (question) => {
    const of = (value) => new Set(question.s.filter((s) => s.v === value).map((s) => s.m));
    const right = of(true), wrong = of(false);
    return [...right].some((m) => wrong.size > (wrong.has(m) ? 1 : 0));
  };

  // the samples of a question that the controls ask for
  const matching = (question) => {
    const model = control("model"), kind = control("verdict"), text = control("text").trim().toLowerCase();
    const has = (...fields) => fields.some((field) => field && field.toLowerCase().includes(text));
    if (control("benchmark") !== "" && String(question.b) !== control("benchmark")) return [];
    if (kind === "disagree" && !disagree(question)) return [];
    const everywhere = !text || has(question.id, question.q, question.r);
    return question.s.filter((sample) =>
      (model === "" || String(sample.m) === model)
      && (kind === "" || kind === "disagree" || (kind === "truncated" ? sample.c : verdict(sample) === kind))
      && (everywhere || has(sample.t, sample.a, sample.w)));
  };

  const completion = (sample) => {
    const text = make("pre", "their completion", sample.t);
    if (sample.t.length <= FOLD + 200) return [text];
    const folded = `${sample.t.slice(0, FOLD * 2 / 3)}\n[…]\n${sample.t.slice(-FOLD / 3)}`;
    const button = make("button", "", "");
    button.type = "button";
    const fold = (yes) => {
      text.textContent = yes ? folded : sample.t;
      button.textContent = yes ? `Show all ${sample.t.length} characters` : "Fold";
      button.setAttribute("aria-expanded", String(!yes));
    };
    button.addEventListener("click", () => fold(button.getAttribute("aria-expanded") === "true"));
    fold(true);
    return [text, button];
  };

  const field = (name, value) => {
    const line = make("p");
    line.append(make("span", "field", `${name} `), make("span", "their", value));
    return line;
  };

  const shownSample = (sample) => {
    const box = make("div", `sample ${sample.v === null ? "unjudged" : verdict(sample)}`);
    const head = make("p", "verdict", `${sample.v === null ? "?" : sample.v ? "✓" : "✗"} ${verdict(sample)}`);
    const told = [`sample ${sample.p + 1}`];
    if (sample.n !== null) told.push(counted(sample.n, "token"));
    if (sample.c) told.push("truncated");
    head.append(make("span", "meta", ` · ${told.join(" · ")}`));
    box.append(head, field("answer found:", sample.a === null ? "none" : sample.a));
    if (sample.w) box.append(field("why:", sample.w));
    box.append(...completion(sample));
    return box;
  };

  const shownQuestion = (question, samples) => {
    const article = make("article");
    article.id = address(question);
    const title = make("h3"), link = make("a", "their", question.id);
    link.href = `#${encodeURIComponent(address(question))}`;
    title.append(link);
    if (benchmarks.length > 1) title.append(make("span", "meta", ` · ${benchmarks[question.b]}`));
    article.append(title, make("pre", "their question", question.q));
    article.append(field("reference answer:", question.r === null ? "none" : question.r));
    const side = make("div", "side");
    models.forEach((model, place) => {
      const own = samples.filter((sample) => sample.m === place);
      if (!own.length) return;
      const column = make("div");
      if (models.length > 1) {
        const head = make("h4", "their", model);
        const all = question.s.filter((sample) => sample.m === place);
        const right = all.filter((sample) => sample.v).length;
        head.append(make("span", "meta", ` · ${right} of ${all.length} right`));
        column.append(head);
      }
      column.append(...own.map(shownSample));
      side.append(column);
    });
    article.append(side);
    return article;
  };

  const found = () => questions.map((q) => [q, matching(q)]).filter(([, samples]) => samples.length);

  const show = () => {
    const all = found(), whole = find("whole").checked;
    const pages = Math.max(1, Math.ceil(all.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    const here = all.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    const samples = all.reduce((sum, [, own]) => sum + own.length, 0);
    const range = pages > 1 ? `, of which questions ${page * PER_PAGE + 1} to ${page * PER_PAGE + here.length}` : "";
    find("shown").textContent = all.length
      ? `${counted(samples, "sample")} of ${counted(all.length, "question")}${range}`
      : "No sample is like that.";
    find("questions").replaceChildren(...here.map(([q, own]) => shownQuestion(q, whole ? q.s : own)));
    find("pages").hidden = pages === 1;
    find("earlier").disabled = page === 0;
    find("later").disabled = page === pages - 1;
  };

  // a link to a question shows it whatever the controls say
  const follow = () => {
    let wanted;
    try { wanted = decodeURIComponent(location.hash.slice(1)); } catch { return; }
    const question = wanted.startsWith("q=") && questions.find((q) => address(q) === wanted);
    if (!question) return;
    if (!found().some(([q]) => q === question)) {
      for (const id of ["benchmark", "model", "verdict", "text"]) if (find(id)) find(id).value = "";
    }
    page = Math.floor(found().findIndex(([q]) => q === question) / PER_PAGE);
    show();
    const article = find(wanted);
    article.classList.add("found");
    article.scrollIntoView();
  };

  const turn = (by) => { page += by; show(); find("shown").scrollIntoView(); };
  find("controls").addEventListener("input", () => { page = 0; show(); });
  find("earlier").addEventListener("click", () => turn(-1));
  find("later").addEventListener("click", () => turn(1));
  addEventListener("hashchange", follow);
  // paper cannot be unfolded
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
  find("controls").hidden = false;
  show();
  follow();
})();
