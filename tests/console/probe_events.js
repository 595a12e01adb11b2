// The page's list of events (events.js) with a stream that says 700 events, one of them twice, and
// then belongs to a node that has started again.
async (module) => {
  const { Events } = await import(module);
  const opened = [];
  const Real = window.EventSource;
  window.EventSource = class extends EventTarget {
    static CLOSED = 2;
    constructor(url) {
      super();
      this.url = url;
      opened.push(this);
    }
    close() {}
  };
  const made = (name) => document.createElement(name);
  const view = { list: made("ol"), none: made("p"), level: made("select"), pause: made("button"), state: made("p") };
  view.level.append(new Option("all", "info"));
  const drawn = () => new Promise((done) => setTimeout(done, 150));
  const newest = () => view.list.firstElementChild.textContent;
  const tell = (seq) => {
    const event = { seq, t: "2026-01-01T00:00:00.000Z", level: "info", kind: "alarm", text: `text ${seq}` };
    opened.at(-1).dispatchEvent(new MessageEvent("alarm", { data: JSON.stringify(event) }));
  };
  const events = new Events(view);
  events.follow(1);
  for (let seq = 1; seq <= 700; seq += 1) tell(seq);
  tell(700);
  await drawn();
  const first = { rows: view.list.children.length, newest: newest() };
  events.follow(1);
  const same = opened.length;
  events.follow(2);
  tell(1);
  await drawn();
  window.EventSource = Real;
  return { first, same, urls: opened.map(({ url }) => url), newest: newest() };
}
