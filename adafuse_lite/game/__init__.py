"""The demo: a search played as a game. The widgets are in ``game.widgets``."""

from .asking import Answerer, Notes, Question, Questioner
from .play import WAYS, hidden_postcards, simulate, stored_games
from .searcher import Searcher
from .seeing import calibrate
from .state import Game

__all__ = ["Answerer", "Game", "Notes", "Question", "Questioner", "Searcher", "WAYS", "calibrate"]
__all__ += ["hidden_postcards", "simulate", "stored_games"]
