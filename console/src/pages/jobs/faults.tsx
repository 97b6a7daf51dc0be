import { problemOf } from "../../api/client";
import { Problem } from "../../ui/basics";

/** Why the gateway refuses a request, with each member that is wrong. */
export function Faults({ error }: { error: unknown }) {
  const { errors } = problemOf(error);
  return (
    <div className="faults">
      <Problem error={error} />
      {errors.length > 0 && (
        <ul>
          {errors.map(({ path, message }, index) => (
            <li key={index}>
              <code>{path}</code> <span dir="auto">{message}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
