const WIDTH = 96;
const HEIGHT = 22;

/** A line of values over time, the last one at the right edge. */
export function Sparkline({ values, label }: { values: number[]; label: string }) {
  const most = Math.max(0, ...values);
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`);
  return (
    <svg className="sparkline" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${label}: at most ${most}`}>
      <line x1="0" x2={WIDTH} y1={HEIGHT - 1.5} y2={HEIGHT - 1.5} />
      {values.length > 1 && most > 0 && <polyline points={points.join(" ")} />}
    </svg>
  );
}
