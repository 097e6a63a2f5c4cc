"""A chat-completions server on this machine: the OpenAI protocol, with requests checked as real ones do."""

import base64
import binascii
import hmac
import io
import json
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_BODY_BYTES = 50 * 2**20
JPEG_URL = "data:image/jpeg;base64,"


class ProtocolError(Exception):
    """A request that a real server would refuse too, with `status` and OpenAI's error object."""

    def __init__(self, status: HTTPStatus, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _TextPart(_Model):
    type: Literal["text"]
    text: Annotated[str, Field(min_length=1)]


class _ImageUrl(_Model):
    url: Annotated[str, Field(pattern=f"^{JPEG_URL}")]
    detail: Literal["auto", "low", "high"] = "auto"


class _ImagePart(_Model):
    type: Literal["image_url"]
    image_url: _ImageUrl


_Part = Annotated[_TextPart | _ImagePart, Field(discriminator="type")]
_Texts = Annotated[list[_TextPart], Field(min_length=1)]
_Parts = Annotated[list[_Part], Field(min_length=1)]


class _ScriptMessage(_Model):
    role: Literal["system", "developer", "assistant"]
    content: str | _Texts


class _UserMessage(_Model):
    role: Literal["user"]
    content: str | _Parts


class _JsonSchema(_Model):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool = False

    @model_validator(mode="after")
    def _check_schema(self) -> "_JsonSchema":
        schema = self.schema_
        if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
            raise ValueError("schema must describe an object")
        if self.strict and schema.get("additionalProperties") is not False:
            raise ValueError("in strict mode additionalProperties must be false")
        if self.strict and set(schema.get("required", [])) != set(schema["properties"]):
            raise ValueError("in strict mode all properties must be required")
        return self


class _SchemaFormat(_Model):
    type: Literal["json_schema"]
    json_schema: _JsonSchema


class _ObjectFormat(_Model):
    type: Literal["json_object"]


class _Body(_Model):
    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[
        list[Annotated[_ScriptMessage | _UserMessage, Field(discriminator="role")]], Field(min_length=1)
    ]
    response_format: Annotated[_SchemaFormat | _ObjectFormat, Field(discriminator="type")] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None
    # of vLLM, SGLang and llama.cpp
    chat_template_kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatRequest:
    """A valid request: its JSON `body`, all its text, its decoded images, and its answer's schema or None."""

    body: dict[str, Any]
    text: str
    images: tuple[Image.Image, ...]
    schema: dict[str, Any] | None


def parse_request(data: bytes) -> ChatRequest:
    """Check a chat-completions request; raise ProtocolError, status 400, naming what is wrong and where."""
    try:
        body = json.loads(data)
        parsed = _Body.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(HTTPStatus.BAD_REQUEST, f"{param}: {first['msg']}", param) from error
    except ValueError as error:
        raise ProtocolError(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}") from error
    texts, images = [], []
    for message in parsed.messages:
        if isinstance(message.content, str):
            texts.append(message.content)
            continue
        for part in message.content:
            if isinstance(part, _TextPart):
                texts.append(part.text)
            else:
                images.append(_decode(part.image_url.url))
    wanted = parsed.response_format
    schema = wanted.json_schema.schema_ if isinstance(wanted, _SchemaFormat) else None
    return ChatRequest(body, "\n".join(texts), tuple(images), schema)


def _decode(url: str) -> Image.Image:
    try:
        image = Image.open(
            io.BytesIO(base64.b64decode(url.removeprefix(JPEG_URL), validate=True)), formats=["JPEG"]
        )
        image.load()
    except (binascii.Error, OSError, Image.DecompressionBombError) as error:
        raise ProtocolError(
            HTTPStatus.BAD_REQUEST, f"An image_url holds no JPEG: {error}", "messages"
        ) from error
    return image


class ChatServer(ThreadingHTTPServer):
    """Serves `POST /v1/chat/completions` and `GET /v1/models` for one model on loopback.

    Subclasses say in `answer` what the model replies. With `key`, requests must carry it as a Bearer token.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: str, port: int = 0, key: str = ""):
        super().__init__(("127.0.0.1", port), _Handler)
        self.model = model
        self.key = key

    @property
    def url(self) -> str:
        """What to set VLM_API_URL to."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def serves(self, model: str) -> bool:
        return model == self.model

    def answer(self, request: ChatRequest) -> str:
        """Return the text the model replies with."""
        raise NotImplementedError

    def respond(self, handler: "_Handler", request: ChatRequest) -> None:
        """Send the HTTP response to a valid request."""
        handler.send_json(HTTPStatus.OK, self.completion(request, self.answer(request)))

    def completion(self, request: ChatRequest, content: str) -> dict[str, Any]:
        """Return the response object that carries `content`."""
        # a token is about four characters, or 750 pixels of an image
        prompt_tokens = len(request.text) // 4 + sum(i.width * i.height // 750 for i in request.images)
        completion_tokens = len(content) // 4
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        self._serve("/v1/models", self._list_models)

    def do_POST(self) -> None:
        self._serve("/v1/chat/completions", self._complete)

    def _serve(self, path: str, action: Any) -> None:
        try:
            self._authorise()
            if self.path != path:
                raise ProtocolError(HTTPStatus.NOT_FOUND, f"Unknown address {self.command} {self.path}")
            action()
        except ProtocolError as refused:
            self.send_json(refused.status, {"error": refused.error})

    def _authorise(self) -> None:
        if self.server.key and not hmac.compare_digest(
            self.headers.get("Authorization", "").encode(), f"Bearer {self.server.key}".encode()
        ):
            raise ProtocolError(HTTPStatus.UNAUTHORIZED, "Incorrect API key provided", code="invalid_api_key")

    def _list_models(self) -> None:
        model = {"id": self.server.model, "object": "model", "created": 0, "owned_by": "kibotos"}
        self.send_json(HTTPStatus.OK, {"object": "list", "data": [model]})

    def _complete(self) -> None:
        if self.headers.get_content_type() != "application/json":
            raise ProtocolError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise ProtocolError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if int(length) > MAX_BODY_BYTES:
            raise ProtocolError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is over {MAX_BODY_BYTES} bytes"
            )
        request = parse_request(self.rfile.read(int(length)))
        if not self.server.serves(request.body["model"]):
            raise ProtocolError(
                HTTPStatus.NOT_FOUND,
                f"The model {request.body['model']!r} does not exist; this server has {self.server.model!r}",
                "model",
                "model_not_found",
            )
        self.server.respond(self, request)

    def send_json(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: who asked logs what came of it."""
