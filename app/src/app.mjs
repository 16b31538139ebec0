// The interface over a host; see client.mjs. Here its parts meet: conversations, models, answers, and the screen that shows them.
import { Answering } from "./answering.mjs";
import { Conversations } from "./conversations.mjs";
import { openEdit } from "./edit_form.mjs";
import { readFile, saveJson, saveMarkdown, stemOf } from "./files.mjs";
import { ModelChoice } from "./model_choice.mjs";
import { tell } from "./notices.mjs";
import { preferences, savePreferences } from "./preferences.mjs";
import { Screen } from "./screen.mjs";
import { isSessionFile, SessionView } from "./session_view.mjs";
import { openSettings } from "./settings_view.mjs";
import * as talks from "./talk.mjs";
import { speak, t } from "./words.mjs";

const LATE = 20_000; // ms without a model to ask, after which that is told

export class App {
  /** openShelf: see shelf.mjs. */
  constructor(client, openShelf) {
    this.client = client;
    this.openShelf = openShelf;
  }

  async start() {
    speak(preferences.language);
    const { client } = this;
    this.models = new ModelChoice(client, {
      show: () => this.#show(),
      chosen: (id, model) => this.#chosen(id, model),
      talk: () => this.talk,
    });
    this.answering = new Answering(client, this.models, {
      begun: (talk) => this.#begun(talk),
      keep: (talk) => this.talks.save(talk),
      doing: (talk, message, progress) => this.talk === talk && this.screen.thread.tellDoing(message, progress),
      grown: (talk, message) => this.talk === talk && this.screen.thread.grow(message),
      over: (talk, message) => this.#over(talk, message),
    });
    this.talks = new Conversations(this.answering.running, {
      opened: (talk) => this.#opened(talk),
      show: () => this.#show(),
    });
    this.screen = new Screen(this.models, {
      conversations: this.#conversationActions(),
      messages: this.#messageActions(),
      composer: this.#composerActions(),
      settings: () => this.#settings(),
      leave: () => this.#keep(),
    });
    this.screen.build(client.flags);
    const ready = this.talks.start(this.openShelf, preferences.last);
    client.changed = () => ready.then(() => this.models.find());
    this.models.finding = ready.then(() => this.models.find());
    const late = setTimeout(() => this.#late(true), LATE);
    await this.models.finding;
    clearTimeout(late);
    this.#late(false);
  }

  /** The conversation that is open. */
  get talk() {
    return this.talks.current;
  }

  // what somebody does

  #conversationActions() {
    return {
      open: (id) => this.talks.open(id),
      create: () => this.talks.open(null),
      find: (words) => this.talks.find(words),
      rename: (id, title) => this.talks.change(id, (talk) => (talk.title = title)),
      remove: (id) => this.talks.remove(id),
      markdown: (id) => this.talks.with(id, saveMarkdown),
      json: (id) => this.talks.with(id, saveJson),
      session: (id) => this.talks.with(id, (talk) => this.#session(talk).open()),
      take: (file) => this.#take(file),
    };
  }

  #messageActions() {
    const again = (message) => this.answering.answer(this.talk, message.parent);
    return {
      again,
      retry: again,
      edit: (message, view) => openEdit(view, (text) => this.answering.edit(this.talk, message, text)),
      fork: (message) => this.#add(talks.forkAt(this.talk, message.id)),
      remove: (message) => this.#removeMessage(message),
      turn: (_, id) => {
        talks.showBranch(this.talk, id);
        this.#keep();
        this.#show();
      },
    };
  }

  #composerActions() {
    return {
      send: (text, files) => {
        this.screen.thread.following = true;
        this.answering.send(this.talk, text, files);
        this.screen.thread.toEnd();
      },
      stop: () => this.answering.stop(this.talk),
      draft: (text, files) => this.talks.draft(text, files),
      trouble: (words) => tell(words),
      others: (files) => this.models.take(files),
    };
  }

  #settings() {
    const model = this.models.of(this.talk);
    openSettings(
      {
        talk: this.talk,
        model,
        about: model && this.client.about(model.id),
        language: speak(preferences.language),
        otherServer: preferences.otherServer,
      },
      {
        change: () => this.#keep(),
        otherServer: (address) => {
          preferences.otherServer = address;
          savePreferences();
        },
        language: async (language) => {
          preferences.language = language;
          savePreferences();
          location.reload();
        },
      },
    );
  }

  #session(talk) {
    const ref = talks.pathTo(talk).findLast((message) => message.ref)?.ref ?? null;
    return new SessionView(
      this.client.sessions,
      { title: talk.title, ref, name: stemOf(talk), otherServer: preferences.otherServer },
      { take: (found) => this.#add(talks.talkOf(found)), messages: () => saveJson(talk) },
    );
  }

  async #take(file) {
    if (isSessionFile(file)) {
      if (!this.client.sessions) return tell(t("noSessionsHere", { name: file.name }));
      return this.#session({ title: file.name, messages: {}, leaf: null }).load(file);
    }
    try {
      await this.#add(await readFile(file));
    } catch (error) {
      tell(error.message);
    }
  }

  /** A new conversation that is kept and opened. */
  async #add(talk) {
    await this.talks.save(talk);
    await this.talks.open(talk.id);
  }

  #removeMessage(message) {
    const { talk } = this;
    if (this.answering.running.has(talk.id)) return;
    const { id, leaf } = talk;
    const removed = talks.removeBranch(talk, message.id);
    const refs = removed.map(({ ref }) => ref).filter(Boolean);
    const forget = setTimeout(() => this.client.forget(refs), 12_000); // after the way back is gone
    this.#keep();
    this.#show();
    tell(t("removed"), () => {
      clearTimeout(forget);
      this.talks.change(id, (now) => talks.bringBack(now, removed, leaf));
    });
  }

  // what has happened

  #opened(talk) {
    this.screen.closeMenu();
    this.models.useFor(talk);
    this.#show();
    this.screen.composer.write(talk.draft, talk.draftFiles);
    this.screen.composer.area.focus();
  }

  #begun(talk) {
    preferences.last = talk.id;
    savePreferences();
    this.talks.save(talk);
    this.#show();
  }

  async #over(talk, message) {
    if (this.talk === talk) {
      this.screen.tellEnd(message);
      await this.models.learn();
    }
    this.#show();
  }

  /** Another model for a conversation, which need not be the open one any more. */
  #chosen(id, model) {
    if (id === this.talk.id) return this.#keep();
    if (this.talks.heads.has(id)) return this.talks.change(id, (talk) => (talk.model = model));
  }

  #late(isLate) {
    this.screen.late = isLate;
    this.#show();
  }

  #keep() {
    return this.talks.save(this.talk);
  }

  #show() {
    const { heads, current: talk, shelf } = this.talks;
    this.screen.show({ talk, heads, running: this.answering.running, lasting: shelf?.lasting ?? true });
  }
}
