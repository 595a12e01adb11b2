class Share:
    index: int
    identifier: int
    @classmethod
    def from_mnemonic(cls, mnemonic: str) -> Share: ...
