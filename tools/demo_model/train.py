"""Trains the demo model on dialogues made on the fly: no file is read, every seed is fixed.

    python train.py --out build            # about an hour on one or two cores

Short dialogues come first, because copying is the one thing that is hard to discover and short
contexts make it easy to find; length and variety grow from there up to the whole context.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenizer as tok
from check import answers_right
from dialogues import copying, dialogue
from model import DemoModel, Shape

SEED = 20261122
STEPS = 4000
TOKENS = 3072
"""Tokens per step, padding included."""

COPYING = 0.12
"""Share of the steps in which most dialogues are the copying lesson."""


def _turns(rng: Random, progress: float) -> int:
    """How many exchanges the next dialogue has, at this point (0 to 1) of the training."""
    if progress < COPYING:
        return rng.randint(1, 3)
    style = rng.random()
    if progress > 0.35 and style < 0.04:
        return rng.randint(12, 32)
    if style < 0.25:
        return rng.randint(6, 12)
    return rng.randint(1, 6)


Sample = tuple[list[int], list[bool]]


def _samples(rng: Random, tokenizer: tok.Tokenizer, context: int, progress: float) -> list[Sample]:
    made = []
    for _ in range(256):
        first = progress < COPYING and rng.random() < 0.8
        talk = copying(rng) if first else dialogue(rng, _turns(rng, progress))
        ids, learned = tokenizer.dialogue(talk)
        made.append((ids[:context], learned[:context]))
    return made


def batches(
    tokenizer: tok.Tokenizer, context: int, steps: int, tokens: int, seed: int, start: float = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of similar length (so little is padding): ids and the mask of learned positions."""
    rng = Random(seed)
    done = 0
    while done < steps:
        progress = start + (1 - start) * done / steps
        pool = sorted(_samples(rng, tokenizer, context, progress), key=lambda s: len(s[0]))
        packed: list[list[Sample]] = [[]]
        for sample in pool:
            if packed[-1] and (len(packed[-1]) + 1) * len(sample[0]) > tokens:
                packed.append([])
            packed[-1].append(sample)
        rng.shuffle(packed)
        for batch in packed:
            yield pad(batch)
            done += 1


def pad(batch: list[Sample]) -> tuple[Tensor, Tensor]:
    """One tensor of ids and one of learned positions, filled up to the longest sample."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), length), tok.EOS)
    mask = torch.zeros((len(batch), length), dtype=torch.bool)
    for row, (sample, learned) in enumerate(batch):
        ids[row, : len(sample)] = torch.tensor(sample)
        mask[row, : len(sample)] = torch.tensor(learned)
    return ids, mask


def loss_of(model: DemoModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the answers' tokens only: what users will say cannot be predicted."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.hidden(ids[:, :-1])[mask[:, 1:]]
        logits = model.logits(hidden)
    return F.cross_entropy(logits.float(), ids[:, 1:][mask[:, 1:]])


def optimizers(model: DemoModel, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for p in model.blk.parameters() if p.dim() == 2]
    rest = [model.token_embd.weight, *(p for p in model.parameters() if p.dim() == 1)]
    return [
        torch.optim.Muon(matrices, lr=peak, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=peak / 4, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, steps: int, decay: float) -> float:
    """Short warm-up, then down to nearly nothing over the last share `decay` of the steps."""
    return min(1.0, (step + 1) / 40, max(0.01, (steps - step) / (decay * steps)))


def save(path: Path, model: DemoModel, shape: Shape, log: dict[str, object]) -> None:
    """Write to a side file first: an export may be reading the checkpoint at this moment."""
    side = path.with_suffix(".part")
    torch.save({"weights": model.state_dict(), "shape": asdict(shape), "log": log}, side)
    side.replace(path)


def use_idle_core() -> None:
    """Be a good neighbour: use a second core only while it is idle."""
    others = os.getloadavg()[0] - torch.get_num_threads()
    torch.set_num_threads(2 if others < 0.4 else 1)


def main() -> None:
    """Train, report progress, and keep the newest checkpoint for `export.py`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=Path("build"), help="folder for checkpoints")
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument(
        "--threads", type=int, default=1, help="0: use a second one while it is idle"
    )
    options.add_argument("--rate", type=float, default=0.016)
    options.add_argument("--tokens", type=int, default=TOKENS)
    options.add_argument("--decay", type=float, default=0.95)
    options.add_argument("--init", type=Path)
    options.add_argument("--layers", type=int, default=Shape(0).layers)
    args = options.parse_args()
    torch.set_num_threads(args.threads or 1)
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.monotonic()
    tokenizer = tok.Tokenizer.load(args.init / "tokenizer.json") if args.init else tok.train()
    tokenizer.save(args.out / "tokenizer.json")
    shape = Shape(vocab=len(tokenizer.tokens), layers=args.layers)
    model = DemoModel(shape)
    if args.init:
        model.load_state_dict(torch.load(args.init / "model.pt", weights_only=True)["weights"])
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, {shape}", flush=True)

    used = optimizers(model, args.rate)
    base = [group["lr"] for optimizer in used for group in optimizer.param_groups]
    running, seen = 0.0, 0
    for step, (ids, mask) in enumerate(
        batches(tokenizer, shape.context, args.steps, args.tokens, SEED, 0.4 if args.init else 0)
    ):
        if step >= args.steps:
            break
        groups = [group for optimizer in used for group in optimizer.param_groups]
        for group, rate in zip(groups, base, strict=True):
            group["lr"] = rate * _rate(step, args.steps, args.decay)
        loss = loss_of(model, ids, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in used:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        seen += ids.numel()
        if step % 25 == 0:
            if args.threads == 0:
                use_idle_core()
            spent = time.monotonic() - start
            print(f"{step:5d} loss {running:.4f} {spent:6.0f} s {seen:,} tokens", flush=True)
        if step % 150 == 149 or step == args.steps - 1:
            minutes = (time.monotonic() - start) / 60
            log = {"steps": step + 1, "minutes": minutes, "tokens": seen, "seed": SEED}
            save(args.out / "model.pt", model, shape, log)
            print("      held-out answers right:", json.dumps(answers_right(model, tokenizer)))
    spent, busy = (time.monotonic() - start) / 60, time.process_time() / 60
    print(f"trained {args.steps} steps in {spent:.1f} minutes ({busy:.1f} minutes of one core)")


if __name__ == "__main__":
    main()
