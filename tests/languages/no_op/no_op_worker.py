import json

import verger


class WitWorld:
    def describe(self) -> str:
        return json.dumps({"name": "no-op", "version": "0.1.0"})

    def perform(self, scope, args: str):
        return verger.run(lambda args, scope: None, scope, args)
