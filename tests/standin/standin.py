"""The stand-in as tests hold it: start, seed, set faults, read the log, stop."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.standin.accounts import Quota
from tests.standin.answers import Answer, error
from tests.standin.bodies import Body, BytesBody, FileBody, GeneratedBody, MiB
from tests.standin.control import Controls
from tests.standin.faults import Fault, fault_from
from tests.standin.modes import Mode
from tests.standin.portal import Portal
from tests.standin.replay import replayed
from tests.standin.requestlog import RequestLog, RequestRecord
from tests.standin.settings import Config
from tests.standin.spec import Item, ItemSpec
from tests.standin.wire import Request, Server

Target = str | Item | None


class OtherHost:
    """A server that is not the portal: it has the same files, asks for no key, and logs."""

    def __init__(self, portal: Portal) -> None:
        self.log = RequestLog()
        self.url = ""
        self._portal = portal

    def answer(self, request: Request) -> Answer:
        """Answer with the file that the portal would have, or 404."""
        self.log.add(request.entry)
        request.entry.route = "other"
        parts = unquote(urlsplit(request.target).path).rsplit("/", 3)
        file = self._portal.catalogue.file(parts[1], parts[3]) if len(parts) == 4 else None
        return Answer(200, file.body, file.headers) if file else error(404, "Unknown file")

    def done(self, request: Request) -> None:
        """Have nothing to close."""

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request that came here."""
        return self.log.records()


class StandIn:
    """A GEODES of one's own on a real socket, good for one test or for a demonstration."""

    def __init__(
        self,
        api_key: str | None = "standin-key",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_host: str | None = None,
        tls: bool = False,
        **settings: Any,
    ) -> None:
        """Prepare a stand-in; ``start`` or ``with`` puts it on its port.

        Args:
            api_key: The one good key; None lets everyone in.
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            public_host: Host name in hrefs when clients know this machine by another one.
            tls: Whether to serve https, with a certificate made on the spot (``ca_file``).
            settings: Switches of `Config` to set at once.
        """
        self.portal = Portal(set() if api_key is None else {api_key}, Controls(self).answer)
        self.other_host = OtherHost(self.portal)
        self.settings.change(**settings)
        self.ca_file: Path | None = None
        self._address = (host, port)
        self._public_host = public_host or host
        self._tls = tls
        self._folder: Path | None = None
        self._servers: list[Server] = []

    # Life

    def start(self) -> Self:
        """Begin to serve, on two ports: the portal's and the other host's."""
        host, port = self._address
        context = self._certificate() if self._tls else None
        portal = Server(host, port, self.portal, context)
        other = Server(host, 0, self.other_host, None)
        self._servers = [portal, other]
        scheme = "https" if self._tls else "http"
        self.portal.url = f"{scheme}://{self._public_host}:{portal.port}"
        self.other_host.url = f"http://{self._public_host}:{other.port}"
        self.portal.other_url = self.other_host.url
        for server in self._servers:
            server.start()
        return self

    def stop(self) -> None:
        """Drop every connection and free the ports."""
        for server in self._servers:
            server.stop()
        self._servers = []
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _certificate(self) -> ssl.SSLContext:
        """Make a certificate, and return the settings of a server that shows it."""
        from tests.standin import tls  # needs a library that plain http does not

        self._folder = Path(tempfile.mkdtemp(prefix="standin-"))
        self.ca_file = tls.make_certificate(self._folder, self._public_host)
        return tls.server_context(self.ca_file)

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return self.portal.url

    @property
    def settings(self) -> Config:
        """The switches; they may be changed at any time."""
        return self.portal.settings

    # Catalogue

    def add_item(self, size: int = 2 * MiB, **options: Any) -> Item:
        """Add an item and its files to the catalogue, and return it as a search would.

        Args:
            size: Bytes of its archive.
            options: Fields of `ItemSpec`.

        Raises:
            TypeError: an option is not a field of `ItemSpec`.
        """
        if isinstance(options.get("body"), str):
            options["body"] = options["body"].encode()
        return self.portal.catalogue.add(ItemSpec(size=size, **options), self.url)

    def add_real(self, item: Item, size: int = 1000) -> Item:
        """Add an item as the real portal wrote it, with files of ``size`` bytes."""
        return self.portal.catalogue.keep(*replayed(item, self.url, size))

    def add_file(self, path: Path | str, **options: Any) -> Item:
        """Add an item whose archive is a file on disk, sent with ``os.sendfile``."""
        file = Path(path)
        options = {"title": file.name, "identifier": file.name.split(".")[0]} | options
        return self.add_item(body=FileBody(file), **options)

    def replace_body(self, target: str | Item, body: Body | bytes | str) -> None:
        """Change an archive upstream while the catalogue goes on announcing the old one.

        Args:
            target: Digest, id, product name or the item.
            body: The new bytes; a text is the seed of a generated body of the old size.
        """
        name = str(self._name(target))
        for file in self.portal.catalogue.files(name):
            if isinstance(body, str):
                self.portal.catalogue.replace_body(name, GeneratedBody(body, file.body.size))
            elif file.archive:
                new = BytesBody(body) if isinstance(body, bytes) else body
                self.portal.catalogue.replace_body(name, new)

    @property
    def items(self) -> list[Item]:
        """Every item of the catalogue."""
        return self.portal.catalogue.items()

    def body(self, target: str | Item) -> Body:
        """Return the bytes behind an item's archive, or behind any file by its digest."""
        files = self.portal.catalogue.files(str(self._name(target)))
        return next((file for file in files if file.archive), files[0]).body

    def path_of(self, item: Item) -> str:
        """Return the path of an item's archive, ready for a GET."""
        files = self.portal.catalogue.files(item["id"])
        file = next(file for file in files if file.archive)
        return f"/api/download/{file.urn}/files/{file.md5}"

    # Faults and accounts

    def fault(self, target: Target, mode: Mode | str, **options: Any) -> Fault:
        """Make downloads go wrong.

        Args:
            target: Digest, id or product name of a file, or an item; None for every download.
            mode: A `Mode` or its value.
            options: Fields of `Fault`; ``times`` is how often, for ever when absent.
        """
        fault = fault_from(mode, self._name(target), options)
        self.portal.faults.add(fault, self.portal.clock.now())
        return fault

    def clear_faults(self, target: Target = None) -> None:
        """Lift the faults set for one target, or all."""
        self.portal.faults.clear(self._name(target))

    def bring_online(self, target: Target = None) -> None:
        """Bring a file, or all, back from tape; a fault on all files goes only with all."""
        self.portal.bring_online(self._name(target))

    @property
    def quota(self) -> Quota | None:
        """How many downloads a key may start in a window; None for no limit."""
        return self.portal.accounts.quota

    @quota.setter
    def quota(self, quota: Quota | int | None) -> None:
        """Set the quota (a number is so many an hour), and open a new window for everyone."""
        self.portal.accounts.quota = Quota(quota) if isinstance(quota, int) else quota
        self.portal.accounts.forget_usage()

    def set_key(self, *keys: str) -> None:
        """Let these keys in and no others; without any, let everyone in."""
        self.portal.accounts.keys = set(keys)

    def advance(self, seconds: float) -> None:
        """Push the stand-in's clock forward: quota windows reopen, tapes finish."""
        self.portal.clock.advance(seconds)

    @staticmethod
    def _name(target: Target) -> str | None:
        """Return the name a target goes by: an item goes by its id."""
        return str(target["id"]) if isinstance(target, dict) else target

    # Log

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request so far, those in flight included, in the order in which they came."""
        return self.portal.log.records()

    def downloads(self, target: Target = None) -> list[RequestRecord]:
        """Return the GETs on files, of one file or item if a target is given."""
        name = self._name(target)
        names = {name, *(f.md5 for f in self.portal.catalogue.files(name))} if name else {""}
        gets = (r for r in self.requests if r.route == "download" and r.method == "GET")
        return [r for r in gets if any(one in unquote(r.path) for one in names if one is not None)]

    def reset_log(self) -> None:
        """Forget every request, those of the other host too."""
        self.portal.log.clear()
        self.other_host.log.clear()

    def wait_idle(self, timeout_s: float = 5.0) -> bool:
        """Wait until no request is in flight; tell whether that came about in time."""
        return self.portal.log.wait_idle(timeout_s)


def setting_names() -> set[str]:
    """Return the names of all switches."""
    return {field.name for field in fields(Config)}
