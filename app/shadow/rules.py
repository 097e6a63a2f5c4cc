"""Other numbers for the formula, from a file."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.assessment import formula
from app.config import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class TriedRules(BaseModel):
    """What a file of --rules may hold: a JSON object. What it leaves out stays as it is."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    technical_weights: dict[str, Annotated[float, Field(ge=0)]] = formula.TECHNICAL_WEIGHTS
    relevance_weights: dict[str, Share] = formula.RELEVANCE_WEIGHTS
    final_weights: dict[str, Share] = formula.FINAL_WEIGHTS
    min_relevance: Share | None = None
    min_action_match: Share = formula.MIN_ACTION_MATCH
    max_matched: Share = formula.MAX_MATCHED

    @model_validator(mode="after")
    def _check_weights(self) -> "TriedRules":
        for name, known in (
            ("technical_weights", formula.TECHNICAL_WEIGHTS),
            ("relevance_weights", formula.RELEVANCE_WEIGHTS),
            ("final_weights", formula.FINAL_WEIGHTS),
        ):
            given = getattr(self, name)
            if given.keys() != known.keys():
                raise ValueError(f"{name} must name {', '.join(known)}, and nothing else")
            if name == "technical_weights" and not sum(given.values()):
                raise ValueError("technical_weights must not all be 0")
            if name != "technical_weights" and abs(sum(given.values()) - 1) > 1e-9:
                raise ValueError(f"{name} must sum to 1")
        return self

    @property
    def rules(self) -> formula.Rules:
        return formula.Rules(
            self.technical_weights,
            self.relevance_weights,
            self.final_weights,
            self.min_action_match,
            self.max_matched,
        )


def read_rules(file: Path) -> TriedRules:
    """Read a file of --rules. Raises ConfigError for one that cannot be used."""
    try:
        return TriedRules.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the object"
        raise ConfigError(f"{file}: {where}: {first['msg']}") from error
