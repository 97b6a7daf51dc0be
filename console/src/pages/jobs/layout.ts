/** A layered drawing of a graph without cycles: nodes in layers by their longest way from a start, few crossings. */

export interface GraphNode {
  id: string;
  needs: readonly string[];
}

export interface Placed {
  id: string;
  x: number;
  y: number;
}

export interface Route {
  from: string;
  to: string;
  path: string;
}

export interface Layout {
  width: number;
  height: number;
  nodes: Placed[];
  edges: Route[];
}

export interface Size {
  width: number;
  height: number;
  gapAlong: number;
  gapAcross: number;
}

/** One place of a layer: a node, or a bend of an edge that passes the layer. */
interface Slot {
  id: string;
  bend: boolean;
  before: string[];
}

const SWEEPS = 6;
const BEND = 14;

/** Layers from left to right. */
export function layOutAcross(nodes: readonly GraphNode[], size: Size): Layout {
  const needs = reduced(nodes);
  const layers = layersOf(nodes, needs);
  const chains = new Map<string, string[]>();
  const slots = withBends(layers, needs, chains);
  untangle(slots);
  const lengths = slots.map((layer) => layer.reduce((sum, slot) => sum + (slot.bend ? BEND : size.height) + size.gapAcross, -size.gapAcross));
  const height = Math.max(0, ...lengths);
  const places = new Map<string, { x: number; y: number; bend: boolean }>();
  slots.forEach((layer, index) => {
    let y = (height - (lengths[index] ?? 0)) / 2;
    for (const slot of layer) {
      const own = slot.bend ? BEND : size.height;
      places.set(slot.id, { x: index * (size.width + size.gapAlong), y: y + own / 2, bend: slot.bend });
      y += own + size.gapAcross;
    }
  });
  const edges = [...chains].map(([name, chain]): Route => {
    const [from = "", to = ""] = name.split("\u0000");
    let path = "";
    chain.slice(1).forEach((id, at) => {
      const start = places.get(chain[at] ?? "");
      const end = places.get(id);
      if (!start || !end) return;
      const x1 = start.x + size.width;
      const middle = (x1 + end.x) / 2;
      path += `${path === "" ? `M${x1} ${start.y}` : ""}C${middle} ${start.y} ${middle} ${end.y} ${end.x} ${end.y}`;
      if (end.bend) path += `H${end.x + size.width}`;
    });
    return { from, to, path };
  });
  return {
    width: Math.max(0, slots.length * (size.width + size.gapAlong) - size.gapAlong),
    height,
    nodes: nodes.map(({ id }) => ({ id, x: places.get(id)?.x ?? 0, y: (places.get(id)?.y ?? 0) - size.height / 2 })),
    edges,
  };
}

/** Layers from top to bottom, for narrow windows: a layer that is wider than `room` goes on in a further row. */
export function layOutDown(nodes: readonly GraphNode[], size: Size, room: number): Layout {
  const needs = reduced(nodes);
  const layers = layersOf(nodes, needs);
  const slots = layers.map((layer) => layer.map((id): Slot => ({ id, bend: false, before: needs.get(id) ?? [] })));
  untangle(slots);
  const perRow = Math.max(1, Math.floor((room + size.gapAcross) / (size.width + size.gapAcross)));
  const rows: Slot[][] = [];
  for (const layer of slots) for (let at = 0; at < layer.length; at += perRow) rows.push(layer.slice(at, at + perRow));
  const widest = Math.max(0, ...rows.map((row) => row.length));
  const width = Math.max(0, widest * (size.width + size.gapAcross) - size.gapAcross);
  const places = new Map<string, { x: number; y: number }>();
  rows.forEach((row, index) => {
    const own = row.length * (size.width + size.gapAcross) - size.gapAcross;
    row.forEach((slot, at) =>
      places.set(slot.id, { x: (width - own) / 2 + at * (size.width + size.gapAcross), y: index * (size.height + size.gapAlong) }),
    );
  });
  const edges: Route[] = [];
  for (const [to, before] of needs) {
    for (const from of before) {
      const start = places.get(from);
      const end = places.get(to);
      if (!start || !end) continue;
      const [x1, y1] = [start.x + size.width / 2, start.y + size.height];
      const [x2, y2] = [end.x + size.width / 2, end.y];
      const bend = Math.min(size.gapAlong, (y2 - y1) / 2);
      edges.push({ from, to, path: `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}` });
    }
  }
  const height = Math.max(0, rows.length * (size.height + size.gapAlong) - size.gapAlong);
  return { width, height, nodes: nodes.map(({ id }) => ({ id, x: places.get(id)?.x ?? 0, y: places.get(id)?.y ?? 0 })), edges };
}

/** What each node needs, without what another need implies. */
function reduced(nodes: readonly GraphNode[]): Map<string, string[]> {
  const known = new Set(nodes.map((node) => node.id));
  const direct = new Map(nodes.map((node) => [node.id, node.needs.filter((need) => known.has(need))]));
  const above = new Map<string, Set<string>>();
  const ancestors = (id: string): Set<string> => {
    const found = above.get(id);
    if (found) return found;
    const all = new Set<string>();
    above.set(id, all);
    for (const need of direct.get(id) ?? []) {
      all.add(need);
      for (const further of ancestors(need)) all.add(further);
    }
    return all;
  };
  return new Map(
    [...direct].map(([id, needs]) => [id, needs.filter((need) => !needs.some((other) => other !== need && ancestors(other).has(need)))]),
  );
}

function layersOf(nodes: readonly GraphNode[], needs: Map<string, string[]>): string[][] {
  const depth = new Map<string, number>();
  const deep = (id: string): number => {
    const known = depth.get(id);
    if (known !== undefined) return known;
    depth.set(id, 0);
    const found = Math.max(0, ...(needs.get(id) ?? []).map((need) => deep(need) + 1));
    depth.set(id, found);
    return found;
  };
  const layers: string[][] = [];
  for (const { id } of nodes) (layers[deep(id)] ??= []).push(id);
  return layers;
}

function withBends(layers: string[][], needs: Map<string, string[]>, chains: Map<string, string[]>): Slot[][] {
  const at = new Map(layers.flatMap((layer, index) => layer.map((id) => [id, index] as const)));
  const slots = layers.map((layer) => layer.map((id): Slot => ({ id, bend: false, before: [] })));
  const nodes = new Map(slots.flat().map((slot) => [slot.id, slot]));
  for (const [to, before] of needs) {
    for (const from of before) {
      const chain = [from];
      for (let layer = (at.get(from) ?? 0) + 1; layer < (at.get(to) ?? 0); layer += 1) {
        const id = `${from}\u0000${to}\u0000${layer}`;
        slots[layer]?.push({ id, bend: true, before: [chain.at(-1) ?? from] });
        chain.push(id);
      }
      nodes.get(to)?.before.push(chain.at(-1) ?? from);
      chain.push(to);
      chains.set(`${from}\u0000${to}`, chain);
    }
  }
  return slots;
}

/** Orders each layer by the middle of its neighbours, forth and back. */
function untangle(layers: Slot[][]): void {
  const after = new Map<string, string[]>();
  for (const slot of layers.flat()) for (const before of slot.before) after.set(before, [...(after.get(before) ?? []), slot.id]);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = down ? layers.slice(1) : layers.slice(0, -1).reverse();
    const index = () => new Map(layers.flatMap((layer) => layer.map((slot, at) => [slot.id, (at + 0.5) / layer.length] as const)));
    for (const layer of order) {
      const places = index();
      const wish = new Map(
        layer.map((slot) => {
          const near = (down ? slot.before : (after.get(slot.id) ?? [])).map((id) => places.get(id) ?? 0);
          const own = places.get(slot.id) ?? 0;
          return [slot.id, near.length > 0 ? near.reduce((sum, one) => sum + one, 0) / near.length : own] as const;
        }),
      );
      layer.sort((one, other) => (wish.get(one.id) ?? 0) - (wish.get(other.id) ?? 0));
    }
  }
}
