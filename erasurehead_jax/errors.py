"""The one exception a user can cause: the commands print it as one line and exit with status 2."""


class ConfigError(ValueError):
    """A setting, file or machine that breaks a documented rule.

    The message is one line: the field, its value, the rule, and what to do.
    """
