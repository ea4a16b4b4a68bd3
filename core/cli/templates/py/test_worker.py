import json
import unittest
from pathlib import Path

import verger_testing
from {{module}} import WitWorld
from wit_world.imports import types

SETUP = Path(__file__).with_name("setup.sql").read_text()


class CloseStaleOrders(unittest.TestCase):
    def setUp(self) -> None:
        self.world = verger_testing.World(SETUP)

    def perform(self, **args):
        return self.world.perform(WitWorld(), args)

    def test_old_orders_are_closed_and_a_bad_one_does_not_stop_the_others(self) -> None:
        self.assertEqual(json.loads(self.perform().value), {"closed": 2, "errors": 1})
        self.assertEqual(self.world.look("SELECT id FROM orders WHERE state = 'closed'"), [(1,), (3,)])
        closings = self.world.look("SELECT organization_id, closed FROM closings ORDER BY 1")
        self.assertEqual(closings, [("acme", 1), ("bell", 1)])
        actions = [event.action for event in self.world.audited]
        self.assertEqual(actions, ["order.closed", "order.not_closed", "order.closed"])

    def test_batches_of_one_come_to_the_same(self) -> None:
        self.assertEqual(json.loads(self.perform(batch_size=1).value), {"closed": 2, "errors": 1})

    def test_an_arg_of_the_wrong_type_discards_the_job_with_its_name(self) -> None:
        ended = self.perform(days="ten")
        self.assertIsInstance(ended, types.Outcome_Discard)
        self.assertIn("`days`", ended.value.message)


if __name__ == "__main__":
    unittest.main()
