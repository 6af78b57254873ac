"""What can be run from a shell."""

from . import __version__

print(f"""adafuse-lite {__version__}: searching pictures by conversation, with the help of drawings

  jupyter lab notebooks                            read and run the lesson; 06_demo is a game
  papermill notebooks/04_train.ipynb out.ipynb     train the head and compare it
  python -m adafuse_lite.bank --help               build a feature bank of your own benchmark
  python -m adafuse_lite.postcards.study --help    train all that 05_evaluate reports
  python -m adafuse_lite.game OUT.json             play the 200 games that 06_demo reports

From Python:
  from adafuse_lite import AdaFuSE, load_bank, load_encoder, load_generator, fit, ranks""")
