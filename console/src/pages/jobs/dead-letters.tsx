import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";
import { api, read, type DeadLetter } from "../../api/client";
import { bytes, plural, printable } from "../../lib/format";
import { Button, CopyButton, Empty, Loading, PageHead, Problem, Time } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { Icon } from "../../ui/icon";

const PAGE = 50;

/** Work that failed for good, newest first. */
export function DeadLettersPage() {
  const [search, setSearch] = useSearchParams();
  const place = Number(search.get("after"));
  const after = Number.isSafeInteger(place) && place > 0 ? place : null;
  const letters = useQuery({
    queryKey: ["dead-letters", after],
    queryFn: ({ signal }) => read(api.GET("/v1/dead-letters", { params: { query: { limit: PAGE, after } }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });
  const [open, setOpen] = useState<number | null>(null);
  const [answer, setAnswer] = useState<string | null>(null);
  const found = letters.data?.dead_letters ?? [];
  const next = letters.data?.next ?? null;
  return (
    <>
      <PageHead title="Dead letters" lead="Work that failed for good. Mend the cause, then replay it; or discard it." />
      {answer !== null && (
        <div className="gate good" role="status">
          <div>
            <p dir="auto" className="pre">
              {answer}
            </p>
          </div>
          <Button kind="quiet" icon="close" aria-label="Close" onClick={() => setAnswer(null)} />
        </div>
      )}
      <section className="panel" aria-label="Dead letters">
        {letters.isPending ? (
          <Loading label="Reading dead letters" />
        ) : letters.error && !letters.data ? (
          <div className="padded">
            <Problem error={letters.error} retry={() => void letters.refetch()} />
          </div>
        ) : found.length === 0 ? (
          <Empty icon="check" title={after === null ? "There are no dead letters" : "There are no older dead letters"}>
            <p>Work that fails its last try is kept here with its reason.</p>
          </Empty>
        ) : (
          <ul className="letters">
            {found.map((letter) => (
              <Letter
                key={letter.seq}
                letter={letter}
                open={open === letter.seq}
                onOpen={() => setOpen(open === letter.seq ? null : letter.seq)}
                onReplayed={setAnswer}
              />
            ))}
          </ul>
        )}
        {(after !== null || next !== null) && (
          <nav className="pager" aria-label="Pages of dead letters">
            <Button disabled={after === null} onClick={() => setSearch({})}>
              Newest
            </Button>
            <Button disabled={next === null} onClick={() => next !== null && setSearch({ after: String(next) })}>
              Older
            </Button>
          </nav>
        )}
      </section>
    </>
  );
}

interface LetterProps {
  letter: DeadLetter;
  open: boolean;
  onOpen: () => void;
  onReplayed: (words: string) => void;
}

function Letter({ letter, open, onOpen, onReplayed }: LetterProps) {
  const { seq, subject, reason, deliveries, failed_at } = letter;
  return (
    <li>
      <button type="button" className="letter-head" aria-expanded={open} aria-controls={`letter-${seq}`} onClick={onOpen}>
        <Icon name={open ? "down" : "chevron"} size={16} />
        <span className="letter-what">
          <span className="letter-reason" dir="auto">
            {printable(reason) || "No reason was kept."}
          </span>
          <span className="faint">
            <span className="mono">{subject}</span> · {plural(deliveries, "try", "tries")} · <Time at={failed_at} />
          </span>
        </span>
      </button>
      {open && (
        <div id={`letter-${seq}`} className="letter-body" role="region" aria-label={`Dead letter ${seq}`}>
          <LetterBody letter={letter} onReplayed={onReplayed} />
        </div>
      )}
    </li>
  );
}

function LetterBody({ letter, onReplayed }: { letter: DeadLetter; onReplayed: (words: string) => void }) {
  const { seq, reason, traceback, job, payload_bytes } = letter;
  const client = useQueryClient();
  const [asked, setAsked] = useState<"replay" | "discard" | null>(null);
  const params = { params: { path: { seq } } };
  const message = useQuery({
    queryKey: ["dead-letter", seq],
    queryFn: ({ signal }) => read(api.GET("/v1/dead-letters/{seq}", { ...params, signal })),
    staleTime: Infinity,
  });
  const text = message.data?.payload == null ? null : pretty(message.data.payload);
  const renew = () => client.invalidateQueries({ queryKey: ["dead-letters"] });
  // Where it failed, somebody else may have been faster.
  const close = () => {
    setAsked(null);
    void renew();
  };
  const replay = async () => {
    const found = await read(api.POST("/v1/dead-letters/{seq}/replay", params));
    onReplayed("answer" in found ? `The query was answered: ${found.answer}` : `The work is on its queue again: ${found.subject}`);
    await renew();
  };
  return (
    <>
      <div className="section-head">
        {job && (
          <p>
            Job <Link to={`/jobs/${job}`}>{job}</Link>
          </p>
        )}
        <span className="spacer" />
        <Button icon="retry" onClick={() => setAsked("replay")}>
          Replay
        </Button>
        <Button kind="danger" icon="trash" onClick={() => setAsked("discard")}>
          Discard
        </Button>
      </div>
      <h3>Reason</h3>
      <p className="pre" dir="auto">
        {printable(reason)}
      </p>
      <div className="section-head">
        <h3>Message</h3>
        <span className="faint">{bytes(payload_bytes)}</span>
        <span className="spacer" />
        {text !== null && <CopyButton text={() => text} />}
      </div>
      {message.isPending ? (
        <Loading label="Reading the message" />
      ) : !message.data ? (
        <Problem error={message.error} retry={() => void message.refetch()} />
      ) : text === null ? (
        <p className="faint">This key does not allow its text: it may have passages of documents.</p>
      ) : (
        <>
          <pre className="code" dir="auto" tabIndex={0} aria-label="Message">
            {printable(text) || "It is empty."}
          </pre>
          {message.data.payload !== null && message.data.payload.length < payload_bytes && message.data.payload.length >= 65_536 && (
            <p className="faint">Only its beginning is shown.</p>
          )}
        </>
      )}
      {traceback && (
        <details className="more">
          <summary>Traceback</summary>
          <pre className="code" dir="ltr" tabIndex={0}>
            {printable(traceback)}
          </pre>
        </details>
      )}
      {asked === "replay" && (
        <Confirm title={`Replay dead letter ${seq}?`} action="Replay" onConfirm={replay} onClose={close}>
          <p>{job ? "The job goes back on its queue." : "The work is tried again with a fresh deadline."} If it fails again, it becomes a dead letter again.</p>
        </Confirm>
      )}
      {asked === "discard" && (
        <Confirm
          title={`Discard dead letter ${seq}?`}
          action="Discard"
          onClose={close}
          onConfirm={async () => {
            await read(api.DELETE("/v1/dead-letters/{seq}", params));
            await renew();
          }}
        >
          <p>The message is deleted and cannot be replayed.{job && " The job stays failed; it can still be retried."}</p>
        </Confirm>
      )}
    </>
  );
}

/** JSON with line breaks; any other text as it is. */
function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
