"""The one exception that a user sees as a single line, without a traceback.

Enters: a sentence that says what is wrong, where, and which values are legal. Leaves: `UserError`.
"""


class UserError(Exception):
    """Something the user can mend: shown as one line, the command exits with code 2.

    Programming errors stay `ValueError`, `TypeError` and so on, and keep their traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
