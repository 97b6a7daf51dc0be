import { Component, type ReactNode } from "react";
import { Button } from "./basics";

/** A defect in one page leaves the others usable. */
export class Boundary extends Component<{ children: ReactNode }, { failure: Error | null }> {
  override state = { failure: null as Error | null };

  static getDerivedStateFromError(failure: Error) {
    return { failure };
  }

  override render() {
    const { failure } = this.state;
    if (failure === null) return this.props.children;
    return (
      <div className="problem" role="alert">
        <div>
          <strong>This page has a defect</strong>
          <p>{failure.message}</p>
        </div>
        <Button onClick={() => this.setState({ failure: null })}>Try again</Button>
      </div>
    );
  }
}
