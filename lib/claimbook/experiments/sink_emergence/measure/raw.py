"""What rows of attention are before they are made to sum to one."""

from torch import Tensor


class Raw:
    """Reducer: mean sum of a row without the bias, and mean raw score of the first token, over queries past half."""

    def __init__(self, slots: int):
        self.slots, self._sums, self._first = slots, [], []

    def update(self, layer: int, start: int, rows: Tensor) -> None:
        late = rows[:, :, rows.shape[2] // 2 :, self.slots :]
        self._sums.append(float(late.sum(dim=-1).mean()))
        self._first.append(float(late[..., 0].mean()))

    @property
    def row_sum(self) -> float:
        return sum(self._sums) / len(self._sums)

    @property
    def first(self) -> float:
        return sum(self._first) / len(self._first)
