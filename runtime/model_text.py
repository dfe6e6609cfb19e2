"""What a model's artifact brings along besides its graph: tokenizer, chat template, stop tokens and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .artifact.folder import Artifact
from .artifact.generation_config import GenerationConfig
from .errors import UsageError
from .sampling import SamplingParams
from .text.chat_template import ChatTemplate
from .text.prompt import PromptBuilder
from .text.tokenizer import Tokenizer

DEFAULT_MAX_NEW_TOKENS = 512


@dataclass(frozen=True)
class ModelText:
    """The text side of a model.

    Attributes:
        tokenizer: The tokenizer; None for a model without one, which takes and gives token ids.
        template: The chat template, None where there is none.
        config: The model's defaults for generation.
    """

    tokenizer: Tokenizer | None = None
    template: ChatTemplate | None = None
    config: GenerationConfig = field(default_factory=GenerationConfig)

    @classmethod
    def load(cls, artifact: Artifact) -> ModelText:
        """Read the tokenizer and the chat template of an artifact.

        Raises:
            ArtifactError: A file is broken or of another kind.
            MissingError: The system cannot start the process that an unusual tokenizer runs in.
        """
        if artifact.tokenizer is None:
            return cls(config=artifact.generation)
        tokenizer = Tokenizer.load(artifact.tokenizer, artifact.tokenizer_config)
        texts = tokenizer.special_tokens
        template = ChatTemplate.find(artifact.chat_template, artifact.tokenizer_config, texts, artifact.named_templates)
        return cls(tokenizer, template, artifact.generation)

    def completed(self, eos_token_ids: tuple[int, ...]) -> ModelText:
        """The same with the stop tokens of the graph, for an artifact whose own files name none."""
        if self.config.eos_token_ids or (self.tokenizer is not None and self.tokenizer.eos_token_id is not None):
            return self
        return replace(self, config=replace(self.config, eos_token_ids=eos_token_ids))

    @property
    def prompts(self) -> PromptBuilder:
        """The builder of this model's prompts."""
        return PromptBuilder(self.tokenizer, self.template)

    @property
    def max_new_tokens(self) -> int:
        """The default for the most tokens of an answer."""
        return self.config.max_new_tokens or DEFAULT_MAX_NEW_TOKENS

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The token ids that end a text."""
        eos = None if self.tokenizer is None else self.tokenizer.eos_token_id
        return self.config.eos_token_ids or (() if eos is None else (eos,))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end every answer; empty without a tokenizer."""
        return () if self.tokenizer is None else self.config.stop_strings

    def sampling_params(self) -> SamplingParams:
        """The sampling parameters of the model's own configuration.

        Raises:
            ArtifactError: A value is out of its range.
        """
        return SamplingParams.of_artifact(self.config, self.stop_token_ids)

    def all_stop_strings(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The model's stop strings and those that a user wants.

        Raises:
            UsageError: There is no tokenizer.
        """
        if wanted and self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer, which this model came without")
        return (*self.stop_strings, *wanted)
