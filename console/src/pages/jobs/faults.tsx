import { problemOf } from "../../api/client";
import { Problem } from "../../ui/basics";
import { Icon } from "../../ui/icon";

/** Why the gateway refuses a request; of several members that are wrong, each with its reason. */
export function Faults({ error }: { error: unknown }) {
  const { errors, title } = problemOf(error);
  return (
    <div className="faults">
      {errors.length < 2 ? (
        <Problem error={error} />
      ) : (
        <div className="problem" role="alert">
          <Icon name="warning" />
          <div>
            <strong>{title}</strong>
            <ul>
              {errors.map(({ path, message }, index) => (
                <li key={index}>
                  <code>{path}</code> <span dir="auto">{message}</span>
                </li>
              ))}
            </ul>
          </div>
        </div>
      )}
    </div>
  );
}
