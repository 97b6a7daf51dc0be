import { Component, lazy, type ComponentType, type ReactNode } from "react";
import { Button } from "./basics";

class NotLoadedError extends Error {}

const LONGEST_MS = 30_000;

const tooLate = () => new Promise<never>((_, reject) => setTimeout(() => reject(new Error("no answer in time")), LONGEST_MS));

/** A page that is loaded when it is first opened. */
export const lazyPage = (load: () => Promise<{ default: ComponentType }>) =>
  lazy(() =>
    Promise.race([load(), tooLate()]).catch((failure: unknown) => {
      throw new NotLoadedError(String(failure));
    }),
  );

/** Neither React nor the browser loads a part again that has failed once. A new page does, if there is somebody to send it. */
async function loadAnew(): Promise<boolean> {
  const page = await fetch("/", { headers: { Accept: "text/html" } }).catch(() => null);
  if (page?.ok) window.location.reload();
  return page?.ok ?? false;
}

/** A defect in one page leaves the others usable. */
export class Boundary extends Component<{ children: ReactNode }, { failure: Error | null; tries: number }> {
  override state = { failure: null as Error | null, tries: 0 };

  static getDerivedStateFromError(failure: Error) {
    return { failure };
  }

  override render() {
    const { failure } = this.state;
    if (failure === null) return this.props.children;
    if (failure instanceof NotLoadedError) {
      return (
        <div className="page">
          <div className="problem" role="alert" key={this.state.tries}>
            <div>
              <strong>This page could not be loaded</strong>
              <p>{this.state.tries === 0 ? "The gateway did not send it." : "The gateway still cannot be reached."} Check that Sluice is running, and try again.</p>
            </div>
            <Button icon="retry" onClick={() => void loadAnew().then((loads) => loads || this.setState({ tries: this.state.tries + 1 }))}>
              Try again
            </Button>
          </div>
        </div>
      );
    }
    return (
      <div className="page">
        <div className="problem" role="alert">
          <div>
            <strong>This page has a defect</strong>
            <p>{failure.message}</p>
          </div>
          <Button onClick={() => this.setState({ failure: null })}>Try again</Button>
        </div>
      </div>
    );
  }
}
