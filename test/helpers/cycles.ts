/** Cycles in directed graphs, for histories that must not have any. */

/** For each node where its edges lead. */
export type Graph = readonly (readonly number[])[];

/** The strongly connected components with more than one node: each of their nodes is on a cycle. Tarjan (1972), without recursion. */
export function components(graph: Graph): number[][] {
  const found: number[][] = [];
  const order = new Int32Array(graph.length).fill(-1);
  const low = new Int32Array(graph.length);
  const onStack = new Uint8Array(graph.length);
  const stack: number[] = [];
  let next = 0;
  const enter = (node: number, path: { node: number; edge: number }[]): void => {
    order[node] = low[node] = next++;
    stack.push(node);
    onStack[node] = 1;
    path.push({ node, edge: 0 });
  };
  const lower = (node: number, to: number): void => {
    low[node] = Math.min(low[node] ?? 0, to);
  };
  for (let root = 0; root < graph.length; root += 1) {
    if (order[root] !== -1) continue;
    const path: { node: number; edge: number }[] = [];
    enter(root, path);
    for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
      const { node } = at;
      const to = graph[node]?.[at.edge];
      if (to !== undefined) {
        at.edge += 1;
        if (order[to] === -1) enter(to, path);
        else if (onStack[to] === 1) lower(node, order[to] ?? 0);
        continue;
      }
      path.pop();
      const parent = path.at(-1);
      if (parent !== undefined) lower(parent.node, low[node] ?? 0);
      if (low[node] !== order[node]) continue;
      const component = stack.splice(stack.lastIndexOf(node));
      for (const member of component) onStack[member] = 0;
      if (component.length > 1) found.push(component);
    }
  }
  return found;
}

/** The nodes of a shortest path, both ends included, breadth first; undefined where there is none. */
export function shortestPath(
  graph: Graph,
  from: number,
  to: number,
  allowed: (node: number) => boolean = () => true,
): number[] | undefined {
  const before = new Map<number, number>();
  const queue = [from];
  for (const node of queue) {
    for (const next of graph[node] ?? []) {
      if (next === to) {
        const path = [to];
        for (let at: number | undefined = node; at !== undefined; at = before.get(at)) path.push(at);
        return path.reverse();
      }
      if (next === from || before.has(next) || !allowed(next)) continue;
      before.set(next, node);
      queue.push(next);
    }
  }
  return undefined;
}

/** A shortest cycle through some node of each component; the first node comes again at the end. */
export function shortestCycle(graph: Graph): number[] | undefined {
  let shortest: number[] | undefined;
  for (const component of components(graph)) {
    const members = new Set(component);
    // each node of it is on a cycle: a few of them are enough for a short one
    for (const node of component.slice(0, 50)) {
      const cycle = shortestPath(graph, node, node, (other) => members.has(other));
      if (cycle !== undefined && (shortest === undefined || cycle.length < shortest.length)) shortest = cycle;
    }
  }
  return shortest;
}
