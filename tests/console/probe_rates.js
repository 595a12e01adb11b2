// What the page's own bookkeeping (rates.js) makes of a row of answers:
// [[second, {node: [life, attempts, lockouts]}]]; a life of null: the node does not answer.
async ([module, answers]) => {
  const { Rates } = await import(module);
  const rates = new Rates();
  const node = ([number, [life, attempts, lockouts]]) => ({
    node: Number(number),
    view: life === null ? null : {
      counts: { attempts, lockouts, errors: 0, requests: 0 },
      status: { incarnation: life, ready: true },
    },
  });
  for (const [at, nodes] of answers) rates.take({ nodes: Object.entries(nodes).map(node) }, at * 1000);
  const now = answers.at(-1)[0] * 1000;
  const series = rates.series("attempts", now);
  return {
    attempts: Math.round(rates.total("attempts", now)),
    lockouts: rates.total("lockouts", now),
    most: Math.round(Math.max(...series.filter((value) => value !== null))),
    buckets: rates.buckets.size,
    unseen: series.filter((value) => value === null).length,
  };
}
