"""Writes a checkpoint as GGUF: Q8_0 matrices, F32 norms, tokenizer and chat template inside.

python export.py --out build           # build/model.pt -> build/demo.gguf
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch

import tokenizer as tok
from model import Shape

LIMIT = 3_000_000
"""Bytes: the promise made to everyone who installs the package."""


def _metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("llama-bridge demo")
    writer.add_description(
        "A tiny chat model that remembers a name, a home town and a pet within one conversation."
    )
    writer.add_license("MIT")
    writer.add_languages(["en"])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _vocabulary(writer: gguf.GGUFWriter, tokenizer: tok.Tokenizer) -> None:
    special = len(tok.SPECIAL)
    kinds = [gguf.TokenType.CONTROL] * special
    kinds += [gguf.TokenType.NORMAL] * (len(tokenizer.tokens) - special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{a} {b}" for a, b in tokenizer.merges])
    writer.add_bos_token_id(tok.BOS)
    writer.add_eos_token_id(tok.EOS)
    writer.add_eot_token_id(tok.END)
    writer.add_pad_token_id(tok.EOS)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tok.TEMPLATE)


def _weights(writer: gguf.GGUFWriter, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        data = tensor.float().numpy()
        if data.ndim == 1:
            writer.add_tensor(name, data)
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(np.ascontiguousarray(data), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)


def export(folder: Path, target: Path) -> int:
    """Write `target` from the checkpoint in `folder`; the file's size in bytes."""
    saved = torch.load(folder / "model.pt", weights_only=True)
    shape = Shape(**saved["shape"])
    tokenizer = tok.Tokenizer.load(folder / "tokenizer.json")
    side = target.with_suffix(".part")
    writer = gguf.GGUFWriter(side, "llama")
    _metadata(writer, shape)
    _vocabulary(writer, tokenizer)
    _weights(writer, saved["weights"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    size = side.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{size:,} bytes: over the limit of {LIMIT:,}")
    side.replace(target)
    print(f"{target}: {size:,} bytes, from {saved['log']}")
    return size


def main() -> None:
    """Command line of the export."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=Path("build"), help="folder of the checkpoint")
    options.add_argument("--target", type=Path, help="the GGUF; default OUT/demo.gguf")
    args = options.parse_args()
    export(args.out, args.target or args.out / "demo.gguf")


if __name__ == "__main__":
    main()
