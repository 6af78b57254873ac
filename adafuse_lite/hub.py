"""Heads in files: how they are stored and loaded, their model card, published checkpoints."""

from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin

from .checks import refusing
from .errors import InputError
from .files import read_tensors, write_tensors
from .names import files_of, load_model, local_folder

WEIGHTS = "model.safetensors"
# Our module -> its name in the authors' released checkpoints, where that is another.
REFERENCE_NAMES = {
    "text_projection": "text_projection_layer",
    "image_projection": "image_projection_layer",
    "gate": "dynamic_scalar",
    "router": "moe_router",
    "output": "output_layer",
}
CARD = Path(__file__).with_name("card.md").read_text(encoding="utf-8")


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
        remedy = "give a folder that save_pretrained wrote, or train the head anew"
        folder = local_folder(name, "head", remedy)

        def load(local_files_only):
            files = files_of(name, folder, ["config.json", WEIGHTS], local_files_only)
            return super(StoredHead, cls).from_pretrained(files, **{"strict": True, **options})

        return load_model(cls.__name__, load, name, folder, remedy)

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
        remedy = "give the head's own state_dict, without prefixes"
        with refusing((KeyError, ValueError), "This is no published ADaFuSE head", remedy):
            projection_dim, feature_dim = given["text_projection_layer.weight"]
            num_experts, quarter = given["moe_router.2.weight"]
        sizes = (feature_dim, projection_dim, 4 * quarter, num_experts)
        head = cls(*sizes, encoder_hash=encoder_hash)
        theirs = {}
        for name in head.state_dict():
            module, *rest = name.split(".")
            theirs[name] = ".".join([REFERENCE_NAMES.get(module, module), *rest])
        wanted = {theirs[name]: tuple(x.shape) for name, x in head.state_dict().items()}
        for name in sorted(wanted.keys() | given.keys()):
            held, fit = given.get(name, "missing"), wanted.get(name, "nothing")
            if held != fit:
                fault = f"The checkpoint's {name} is {held} where {fit} is expected"
                raise InputError(f"{fault}; give a complete ADaFuSE head.")
        head.load_state_dict({name: state_dict[theirs[name]] for name in theirs})
        return head.eval().requires_grad_(False)
