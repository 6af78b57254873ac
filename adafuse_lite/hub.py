"""Heads in files: how they are stored and loaded, their model card, published checkpoints."""

from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin

from .errors import InputError
from .files import read_tensors, write_tensors
from .names import files_of, local_first, local_folder, looks_like_a_path

WEIGHTS = "model.safetensors"
# Our module -> its name in the authors' released checkpoints.
REFERENCE_NAMES = {
    "text_projection": "text_projection_layer",
    "image_projection": "image_projection_layer",
    "gate": "dynamic_scalar",
    "router": "moe_router",
    "experts": "experts",
    "output": "output_layer",
    "logit_scale": "logit_scale",
}
CARD = """---
{{ card_data }}
---
# ADaFuSE head

A gate and experts that fuse the embedding of a dialogue's text with that of a picture drawn from it
into one search query ([arXiv:2603.21886](https://arxiv.org/abs/2603.21886)), for **features of one
encoder only**.

| | |
| --- | --- |
| trained on | {{ trained_on }} |
| encoder (content hash) | {{ encoder_hash }} |
| width of the features | {{ feature_dim }} |
| experts | {{ num_experts }} |
| parameters | {{ parameters }} |

```python
from adafuse_lite import AdaFuSE

head = AdaFuSE.from_pretrained("this folder or its name on the hub")
query = head(text_features, drawing_features).query
```

Written by adafuse-lite, an independent implementation. What it is good for was measured on the data
named above and nowhere else.
"""


class StoredHead(
    PyTorchModelHubMixin,
    library_name="adafuse-lite",
    model_card_template=CARD,
    tags=["text-to-image-retrieval", "adafuse"],
):
    """What makes a head storable: ``huggingface_hub``'s mixin, with weights that are checked."""

    @classmethod
    def from_pretrained(cls, name, **options):
        """The head called ``name``: a bundled world's, a folder's, or one of the Hugging Face Hub.

        It comes in evaluation mode and frozen; ``requires_grad_()`` lets it learn on.
        """
        folder = local_folder(name, "head")
        path = isinstance(name, Path) or looks_like_a_path(name)

        def load(local_files_only):
            if folder is None and path:
                raise FileNotFoundError("there is no such folder")
            files = files_of(name, folder, ["config.json", WEIGHTS], local_files_only)
            return super(StoredHead, cls).from_pretrained(files, **{"strict": True, **options})

        try:
            return local_first(load, folder)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                f"{name} does not hold a complete {cls.__name__} head ({reason}); "
                "give a folder that save_pretrained wrote, or train the head anew."
            ) from error

    @classmethod
    def _from_pretrained(cls, *, model_id, map_location="cpu", strict=True, **settings):
        """The mixin's call: ``model_id`` is the folder, ``settings`` are those of its config."""
        of_the_hub = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        settings = {name: x for name, x in settings.items() if name not in of_the_hub}
        weights = read_tensors(Path(model_id) / WEIGHTS, "restore it, or train the head anew")
        with torch.device("meta"):  # no memory is taken before the sizes are known to be right
            head = cls(**settings)
        weights = {k: v.to(map_location, torch.float32, copy=True) for k, v in weights.items()}
        head.load_state_dict(weights, strict=strict, assign=True)
        return head.eval().requires_grad_(False)

    def _save_pretrained(self, save_directory):
        # The mixin noted both when the head was built; they may have been set since.
        noted = {"encoder_hash": self.encoder_hash, "trained_on": self.trained_on}
        self._hub_mixin_config = {**self._hub_mixin_config, **noted}
        weights = {k: v.detach().cpu() for k, v in self.state_dict().items()}
        write_tensors(save_directory / WEIGHTS, weights)
        card = save_directory / "README.md"
        if card.exists() and "Written by adafuse-lite" in card.read_text(encoding="utf-8"):
            card.unlink()  # of an earlier head; the mixin writes a new one

    def generate_model_card(self, *args, **kwargs):
        """The card beside the weights: what the head was trained on, and for which encoder."""
        told = {
            "trained_on": self.trained_on or "not stated",
            "encoder_hash": self.encoder_hash or "not stated",
            "feature_dim": self.feature_dim,
            "num_experts": self.num_experts,
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
        }
        return super().generate_model_card(*args, **{**told, **kwargs})

    @classmethod
    def from_reference(cls, state_dict, encoder_hash=None):
        """A head with a published checkpoint's weights and sizes, in evaluation mode."""
        given = {name: tuple(x.shape) for name, x in state_dict.items()}
        try:
            projection_dim, feature_dim = given["text_projection_layer.weight"]
            num_experts, quarter = given["moe_router.2.weight"]
            sizes = (feature_dim, projection_dim, 4 * quarter, num_experts)
            head = cls(*sizes, encoder_hash=encoder_hash)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"The checkpoint is not a published ADaFuSE head ({error}); give the head's own "
                "state_dict, without prefixes."
            ) from error
        theirs = {name: _reference_name(name) for name in head.state_dict()}
        wanted = {theirs[name]: tuple(x.shape) for name, x in head.state_dict().items()}
        for name in sorted(wanted.keys() | given.keys()):
            if wanted.get(name) != given.get(name):
                raise InputError(
                    f"The checkpoint's {name} is {given.get(name, 'missing')} where "
                    f"{wanted.get(name, 'nothing')} is expected; give a complete ADaFuSE head."
                )
        head.load_state_dict({name: state_dict[theirs[name]] for name in theirs})
        return head.eval()


def _reference_name(name):
    module, dot, rest = name.partition(".")
    return REFERENCE_NAMES.get(module, module) + dot + rest
