"""PKCS#11: keys, PRF, sealing, ceremony and provisioning, probe, health.

`Hsm` is what a node uses; `draw`, `init_token`, `provision` and `destroy` are what its operators
use, once. Asked of a device: random, HMAC-SHA-512, import of a secret key, one small data object.
"""

from hsm.ceremony import Ceremony, draw
from hsm.device import Hsm
from hsm.errors import HsmError
from hsm.provisioning import destroy, init_token, provision
from hsm.requests import HsmStats
from hsm.sealing import SealedContents
from hsm.settings import HsmSettings, Pin

__all__ = [
    "Ceremony",
    "Hsm",
    "HsmError",
    "HsmSettings",
    "HsmStats",
    "Pin",
    "SealedContents",
    "destroy",
    "draw",
    "init_token",
    "provision",
]
