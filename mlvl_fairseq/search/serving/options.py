"""How the page is served."""

from dataclasses import dataclass, field
from typing import List, Optional


@dataclass
class ServeOptions:
    """Who is served, and how much each may ask for."""

    host: str = field(default="127.0.0.1", metadata={"help": "address to listen at; 0.0.0.0: all of this machine's"})
    port: int = field(default=8000, metadata={"help": "port to listen at; 0: any that is free", "least": 0})
    allow_host: Optional[List[str]] = field(
        default=None,
        metadata={"help": "a name that browsers may call this server by, as photos.example.org", "repeated": True},
    )
    max_upload: int = field(default=20, metadata={"help": "MiB of a picture that is searched by", "least": 1})
    threads: int = field(default=4, metadata={"help": "requests that are worked on at once", "least": 1})
