import { useEffect, useId, useRef, useState, type FormEvent } from "react";
import type { Exchange, Said } from "../../lib/conversations";
import { plural, printable } from "../../lib/format";
import { TAGS, tagWords } from "../../lib/tags";
import { Button, Problem } from "../../ui/basics";
import { Icon, type IconName } from "../../ui/icon";
import type { Voice } from "./use-feedback";
import "./feedback.css";

/** Where the reader says whether an answer is good, and how it should have been. */
export function AnswerFeedback({ exchange, voice }: { exchange: Exchange; voice: Voice }) {
  const { said, sending, error, say } = voice;
  const [open, setOpen] = useState<"rated" | "asked" | null>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const id = useId();
  const words = inWords(said);
  const rate = (wanted: "up" | "down") => {
    const rating = said.rating === wanted ? "" : wanted;
    setOpen(rating === "down" ? "rated" : null);
    // What was wrong with an answer is not wrong with a good one.
    void say({ rating, ...(said.rating === "down" && said.tags.length > 0 ? { tags: [] } : {}) });
  };
  const close = () => {
    setOpen(null);
    opener.current?.focus();
  };
  return (
    <section className="feedback" aria-label="Your feedback">
      <div className="feedback-bar">
        <Toggle icon="good" tone="yes" label="Good answer" pressed={said.rating === "up"} onClick={() => rate("up")} />
        <Toggle icon="poor" tone="no" label="Poor answer" pressed={said.rating === "down"} onClick={() => rate("down")} />
        <button
          ref={opener}
          type="button"
          className="button quiet"
          aria-expanded={open !== null}
          aria-controls={open ? id : undefined}
          onClick={() => setOpen(open ? null : "asked")}
        >
          <Icon name="pencil" size={16} />
          <span>{words.length > 0 ? "Change" : "Correct it"}</span>
        </button>
        <span className="feedback-state faint" role="status">
          {!sending && error == null && (said.rating || words.length > 0 || said.sources.length > 0) && (
            <>
              <Icon name="check" size={15} /> <span dir="auto">{["Sent", ...words].join(" · ")}</span>
            </>
          )}
        </span>
      </div>
      {open && <FeedbackForm id={id} exchange={exchange} voice={voice} focus={open === "asked"} onClose={close} />}
      {!open && <Fault error={error} />}
    </section>
  );
}

/** Why the gateway has not taken it, brought into view. */
function Fault({ error }: { error: unknown }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    place.current?.scrollIntoView({ block: "nearest" });
  }, [error]);
  if (error == null) return null;
  return (
    <div ref={place} className="feedback-fault">
      <Problem error={error} />
    </div>
  );
}

function inWords(said: Said): string[] {
  return [
    ...said.tags.map((tag) => printable(tagWords(tag)).toLowerCase()),
    ...(said.correction ? ["a correction"] : []),
    ...(said.comment ? ["a comment"] : []),
    ...(said.sources.length > 0 ? [plural(said.sources.length, "source")] : []),
  ];
}

function FeedbackForm({ id, exchange, voice, focus, onClose }: { id: string; exchange: Exchange; voice: Voice; focus: boolean; onClose: () => void }) {
  const { said, sending, say } = voice;
  const [tags, setTags] = useState<string[]>(said.tags);
  const [correction, setCorrection] = useState(said.correction || exchange.answer);
  const [comment, setComment] = useState(said.comment);
  const form = useRef<HTMLFormElement>(null);
  const text = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    form.current?.scrollIntoView({ block: "nearest" });
    if (focus) text.current?.focus({ preventScroll: true });
  }, []);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    // The answer as it was is no correction.
    const corrected = correction.trim() === exchange.answer.trim() ? "" : correction.trim();
    if (await say({ tags, correction: corrected, comment: comment.trim() })) onClose();
  };
  const toggle = (tag: string) => setTags(tags.includes(tag) ? tags.filter((one) => one !== tag) : [...tags, tag]);
  return (
    <form ref={form} id={id} className="feedback-form" aria-label="What was wrong with the answer" onSubmit={(event) => void submit(event)}>
      <div className="chips" role="group" aria-label="What was wrong">
        {Object.entries(TAGS).map(([tag, words]) => (
          <button key={tag} type="button" className="chip tag" aria-pressed={tags.includes(tag)} onClick={() => toggle(tag)}>
            {tags.includes(tag) && <Icon name="check" size={14} />}
            {words}
          </button>
        ))}
      </div>
      <label className="field">
        <span className="field-label">The answer as it should have been</span>
        <textarea
          ref={text}
          dir="auto"
          maxLength={20_000}
          rows={Math.min(12, Math.max(3, Math.ceil(correction.length / 80)))}
          value={correction}
          onChange={(event) => setCorrection(event.target.value)}
        />
      </label>
      <label className="field">
        <span className="field-label">Comment</span>
        <textarea dir="auto" maxLength={4_000} rows={2} value={comment} onChange={(event) => setComment(event.target.value)} />
      </label>
      <Fault error={voice.error} />
      <div className="feedback-actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" busy={sending}>
          Send
        </Button>
      </div>
    </form>
  );
}

/** Whether a source belongs to the question, said or not. */
export function SourceJudge({ index, voice, small = false }: { index: number; voice: Voice; small?: boolean }) {
  const { said, say } = voice;
  const known = said.sources.find((one) => one.index === index)?.relevant;
  const judge = (relevant: boolean) => void say({ sources: [{ index, relevant: known === relevant ? null : relevant }] });
  const choices: [boolean, IconName, string][] = [
    [true, "check", "Belongs here"],
    [false, "close", "Does not belong"],
  ];
  return (
    <span className="judge" role="group" aria-label={`Does source ${index} belong to the question?`}>
      {choices.map(([relevant, icon, label]) =>
        small ? (
          <Toggle key={label} icon={icon} tone={relevant ? "yes" : "no"} label={`${label}: source ${index}`} pressed={known === relevant} onClick={() => judge(relevant)} />
        ) : (
          <button key={label} type="button" className={`chip tag ${relevant ? "yes" : "no"}`} aria-pressed={known === relevant} onClick={() => judge(relevant)}>
            <Icon name={icon} size={14} />
            {label}
          </button>
        ),
      )}
    </span>
  );
}

interface ToggleProps {
  icon: IconName;
  tone: "yes" | "no";
  label: string;
  pressed: boolean;
  onClick: () => void;
}

function Toggle({ icon, tone, label, pressed, onClick }: ToggleProps) {
  return (
    <button type="button" className={`icon-button toggle ${tone}`} aria-label={label} aria-pressed={pressed} title={label} onClick={onClick}>
      <Icon name={icon} size={17} />
    </button>
  );
}
