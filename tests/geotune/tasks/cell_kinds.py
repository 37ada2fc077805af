"""Kinds of rows whose cells hold a coordinate each, and perhaps its hemisphere in a cell of its own."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.geotune.tasks.notations import Case, decimal_comma, degrees_and_minutes, nothing, places, unmarked_minutes
from tests.geotune.tasks.stating_kinds import abroad_in, quoted, signed

BAR = "‖"
"""Separates the cells of a text: latitude, longitude, and the hemisphere of each."""
PLAIN = (
    "@lat‖@lon‖‖",
    " @lat ‖ @lon ‖‖",
    "@lat°‖@lon°‖‖",
    "«+¦»@ulat‖@ulon‖@letterlat‖@letterlon",
    "@ulat‖@ulon‖@Wordlat‖@Wordlon",
    "@ulat‖@ulon‖«@letterlat.¦ @letterlat¦@wordlat¦@Ernlat Hemisphere»‖«@letterlon.¦ @letterlon¦@wordlon»",
    "@ulat«¦ ¦°¦° »@letterlat‖@ulon«¦ ¦°¦° »@letterlon‖‖",
    "@letterlat«¦ »@ulat‖@letterlon«¦ »@ulon‖‖",
    "@ulat @letterlat‖@ulon @letterlon‖@letterlat‖@letterlon",
    "@ulat @Wordlat‖@ulon @Wordlon‖‖",
    "@ulat degrees @wordlat‖@ulon degrees @wordlon‖‖",
    "@lat‖@lon‖@letterlat‖@letterlon",
    '"@lat"‖"@lon"‖‖',
    "@lat deg‖@lon deg‖‖",
)
MARKED = (
    "@ulat«¦ »@letterlat‖@ulon«¦ »@letterlon‖‖",
    "@letterlat«¦ »@ulat‖@letterlon«¦ »@ulon‖‖",
    "@ulat‖@ulon‖@letterlat‖@Wordlon",
    "@lat‖@lon‖‖",
)
SIGNS = ("@slat‖@slon‖‖", "(@slat)‖(@slon)‖‖")
UNREAD = (
    "¤¤.¤¤ «abc¦x¦m¦km¦?¦%¦USD¦C¦rad¦ft¦¤¤.¤¦/ ¤.¤¦to 5¤¦- 5¤¦or 5¤»‖¤.¤¤‖‖",
    "¤¤.¤¤‖¤.¤¤ «abc¦x¦m¦km¦?¦%¦USD¦C¦rad¦ft¦¤¤.¤¦/ ¤.¤¦to 5¤¦- 5¤¦or 5¤»‖‖",
    "¤¤.¤¤, ¤.¤¤‖¤.¤¤‖‖",
    "«¦N/A¦null¦unknown¦-¦nan¦NaN¦inf¦?¦None¦#N/A»‖¤.¤¤‖‖",
    "¤¤.¤¤‖«¦N/A¦null¦unknown¦-¦nan¦NaN¦inf¦?¦None¦#N/A»‖‖",
    "¤¤.¤¤.¤¤‖¤.¤¤‖‖",
    "¤..¤¤‖¤.¤¤‖‖",
    "¤¤.¤¤‖¤.¤.¤‖‖",
    "1¤¤.¤¤‖¤.¤‖‖",
    "¤¤.¤¤‖«181¦2¤¤».¤‖‖",
    "¤¤.¤¤‖¤.¤‖«E¦W¦X¦?¦1¦NS¦abc»‖E",
    "¤¤.¤¤‖¤.¤‖N‖«N¦S¦X¦?¦1¦EW¦abc»",
    "1¤.¤¤ N‖¤.¤ E‖S‖E",
    "1¤.¤¤‖¤.1 E‖N‖W",
    "¤¤.¤¤ E‖¤.¤ N‖‖",
    "<¤¤.¤¤‖¤.¤‖‖",
    "~¤¤.¤¤‖>¤.¤‖‖",
    "¤¤ . ¤¤‖¤.¤‖‖",
    "¤¤. ¤¤‖¤.¤‖‖",
    "¤¤.¤O‖¤.¤‖‖",
    "$¤¤.¤‖¤.¤‖‖",
    "4¤°7¤'N‖¤°1¤'E‖‖",
    "¤¤-0¤-1¤¤¤‖¤.¤‖‖",
    "1.¤¤¤.¤¤¤‖¤.¤¤¤.¤¤¤‖‖",
    "¤¤:¤¤ pm‖¤.¤‖‖",
    "lat ¤¤.¤‖lat ¤.¤‖‖",
    "lon: ¤.¤‖lat: ¤.¤‖‖",
    "0‖0‖‖",
)

CELLS: dict[str, st.SearchStrategy[Case]] = {
    "cells": places(PLAIN),
    "cells with signs": places(SIGNS, extra=signed),
    "cells with minutes": places(MARKED, degrees_and_minutes, (2, 3), extra=quoted),
    "cells with minutes without marks": places(MARKED, unmarked_minutes, (2, 3)),
    "cells in other languages": abroad_in(
        ("@ulat@nlat‖@ulon@nlon‖‖", "@ulat @Nlat‖@ulon @Nlon‖‖", "@ulat‖@ulon‖@nlat‖@nlon", "@ulat‖@ulon‖@Nlat‖@Nlon")
    ),
}
CELLS_WITH_COMMAS: dict[str, st.SearchStrategy[Case]] = {"cells with decimal commas": places(PLAIN, decimal_comma)}
UNREAD_CELLS: dict[str, st.SearchStrategy[Case]] = {"cells that are no coordinates": nothing(UNREAD)}
