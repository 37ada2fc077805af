"""Kinds of texts that state one place: the notations, and what may stand around them."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import strategies as st

from tests.geotune.tasks.notations import (
    Angle,
    Case,
    decimal_comma,
    decimal_degrees,
    degrees_and_minutes,
    pad,
    places,
    unmarked_minutes,
)

SEP = "«, ¦,¦; ¦ ¦ / ¦\n¦ and ¦,\n»"
NAMED_SEP = "«, ¦; ¦\n¦ ¦ and ¦ | ¦,\n¦,»"
LAT, LON = "«lat¦latitude¦Latitude¦Lat¦LAT»", "«lon¦lng¦longitude¦Longitude¦Lon¦LON¦Long»"
LAT2, LON2 = "«lat¦latitude»", "«lon¦lng¦longitude»"
OF = "«: ¦=¦ = ¦ ¦ is ¦:¦ -> ¦: ~¦ of ¦ is approximately ¦: about ¦\n»"
OBJECT = '{"latitude": @lat, "longitude": @lon}'
OTHER = '{"latitude": @lat2, "longitude": @lon2}'

PAIRS = (
    f"«¦Answer: ¦Coordinates: ¦GPS: ¦**Coordinates:** ¦It is at ¦I think the photo was taken at ¦- ¦> »@lat{SEP}@lon"
    "«¦.¦ in France.¦ (Paris)»",
    f"(@lat{SEP}@lon)",
    "[@lat«, ¦,¦,\n  »@lon]",
    "{@lat, @lon}",
    '«`¦**¦*¦"»@lat, @lon«`¦**¦*¦"»',
    f"@lat«°¦ °¦ degrees¦º»{SEP}@lon«°¦ °¦ degrees¦º»",
    '["@lat", "@lon"]',
    "**@lat**, **@lon**",
    '{"«coordinates¦location¦answer¦gps¦latlng»": «[@lat, @lon]¦"@lat, @lon"»}',
    "@lat/@lon",
    "@lat\t@lon",
)
NAMED = (
    f"{LAT}{OF}@lat{NAMED_SEP}{LON}{OF}@lon",
    f"{LON}{OF}@lon{NAMED_SEP}{LAT}{OF}@lat",
    f"«- ¦* ¦»**{LAT}:** @lat«°¦»\n«- ¦* ¦»**{LON}:** @lon«°¦»",
    f'{{"{LAT}": «@lat¦"@lat"¦"@lat°"», "{LON}": «@lon¦"@lon"»}}',
    f'{{"{LON}": «@lon¦"@lon"», «"city": "Paris", ¦»"{LAT}": «@lat¦"@lat"»}}',
    f'{{"country": "France",\n  "«coordinates¦location¦answer»": {{\n    "{LAT}": @lat,\n    "{LON}": @lon\n  }}\n}}',
    f"{{'{LAT}': @lat, '{LON}': @lon}}",
    f"{{{LAT}: @lat, {LON}: @lon}}",
    f"<{LAT}>@lat</lat>\n<{LON}>@lon</lon>",
    f"submit({LAT}=@lat, {LON}=@lon)",
    "«pred_lat¦pred_latitude¦gps_lat¦geo_lat»: @lat, «pred_lon¦pred_longitude¦gps_lon¦geo_lon»: @lon",
    '{"«GPSLatitude¦latitude_deg¦latitude_degrees¦decimalLatitude¦latitude (degrees)¦lat_dd»": @lat,'
    ' "«GPSLongitude¦longitude_deg¦longitude_degrees¦decimalLongitude¦longitude (degrees)¦lon_dd»": @lon}',
    "The latitude is «about ¦approximately ¦roughly ¦¦close to »@lat«°¦ degrees¦» and the longitude"
    " «is ¦is about ¦»@lon«°¦ degrees¦».",
    "@lat«°¦ degrees¦» latitude, @lon«°¦ degrees¦» longitude",
    "at «a ¦»latitude «of ¦»@lat and «a ¦»longitude «of ¦»@lon",
    '{"latitude": {"value": @lat«, "confidence": 0.¤¤¦», "unit": "degrees"}, "longitude": {"value": @lon}}',
    "φ = @lat, λ = @lon",
    "lat/lng @lat,@lon,15z",
    "«Latitude¦Lat» «(deg)¦[°]¦(WGS84)¦(decimal degrees)¦(°)»«: ¦ = »@lat, «Longitude¦Lon» «(deg)¦[°]¦(WGS84)¦(decimal"
    " degrees)¦(°)»«: ¦ = »@lon",
    "«EPSG:4326¦WGS84¦WGS 84¦Decimal degrees¦DD»: @lat, @lon",
    "«~¦≈¦≈ ¦ca. ¦approx. ¦c. »@lat, «~¦≈¦≈ ¦ca. ¦approx. ¦c. »@lon",
)
NAMED_ABROAD = (
    "Latitude «: ¦:¦= »@lat, Longitude «: ¦:¦= »@lon",
    "«Latitud¦Latitudine¦Breite¦Breitengrad¦Breedtegraad»: @lat«,¦\n¦;» «Longitud¦Longitudine¦Länge¦Längengrad"
    "¦Lengtegraad»: @lon",
    "«纬度¦緯度»«：¦: ¦为»@lat«，¦, ¦\n»«经度¦経度»«：¦: ¦为»@lon",
    "«经度¦経度»«：¦: ¦为»@lon«，¦, ¦\n»«纬度¦緯度»«：¦: ¦为»@lat",
    "위도: @lat, 경도: @lon",
    "«широта¦Широта»: @lat, «долгота¦Долгота»: @lon",
    "العرض: @lat، الطول: @lon",
)
HEMISPHERE_SEP = "«, ¦ ¦; ¦ / ¦\n¦ and ¦,¦ by ¦ – ¦ | »"
LETTERS = (
    f"@ulat«¦ ¦°¦° ¦ °»@letterlat{HEMISPHERE_SEP}@ulon«¦ ¦°¦° ¦ °»@letterlon«¦.¦ (Paris)»",
    f"@ulon«¦ ¦°¦° ¦ °»@letterlon{HEMISPHERE_SEP}@ulat«¦ ¦°¦° ¦ °»@letterlat",
    f"@letterlat«¦ ¦: »@ulat«¦°»{HEMISPHERE_SEP}@letterlon«¦ ¦: »@ulon«¦°»",
    f"@letterlon«¦ ¦: »@ulon«¦°»{HEMISPHERE_SEP}@letterlat«¦ ¦: »@ulat«¦°»",
    "(@ulat° @letterlat, @ulon° @letterlon)",
    "@ulat (@letterlat), @ulon (@letterlon)",
    "@ulat° (@letterlat), @ulon° (@letterlon)",
    f"{LAT}«: ¦ »@ulat«¦ ¦°¦° »@letterlat{NAMED_SEP}{LON}«: ¦ »@ulon«¦ ¦°¦° »@letterlon",
    f"{LAT}«: ¦ »@letterlat«¦ »@ulat«¦°»{NAMED_SEP}{LON}«: ¦ »@letterlon«¦ »@ulon«¦°»",
    '{"latitude": "@ulat«¦ ¦°¦° »@letterlat", "longitude": "@ulon«¦ ¦°¦° »@letterlon"}',
    '{"latitude": "@letterlat«¦ »@ulat", "longitude": "@letterlon«¦ »@ulon"}',
    "Latitude (@letterlat): @ulat, Longitude (@letterlon): @ulon",
    "1) @ulat«°¦» @letterlat«\n¦ »2) @ulon«°¦» @letterlon",
    "- @ulat«°¦» @letterlat\n- @ulon«°¦» @letterlon",
    "**@ulat° @letterlat**, **@ulon° @letterlon**",
    '["@ulat@letterlat", "@ulon@letterlon"]',
)
ONE_LETTER = (
    "@letterlat«¦ ¦: »@ulat, @lon",
    "@ulat«¦°¦° »@letterlat, @lon",
    "@lat, @ulon«¦ ¦°»@letterlon",
    "@letterlon«¦ »@ulon, @lat",
    "@lat, @letterlon«¦ »@ulon",
    "lat: @ulat @letterlat, lon: @lon",
    '{"latitude": "@ulat @letterlat", "longitude": @lon}',
    "lat @letterlat @ulat lon @lon",
)
LETTER_BESIDE_SIGN = (
    "@lat@letterlat, @lon@letterlon",
    "@lat° @letterlat, @lon° @letterlon",
    "@letterlat@lat @letterlon@lon",
    "lat: @lat @letterlat, lon: @lon @letterlon",
    "@ulat° @letterlat, @lon° E",
    "@lat° N, @ulon° @letterlon",
    '{"latitude": "@lat N", "longitude": "@lon E"}',
)
DEG = "«°¦ degrees¦° ¦ deg¦»"
WORDS = (
    f"@ulat{DEG} «@wordlat¦@Wordlat»{HEMISPHERE_SEP}@ulon{DEG} «@wordlon¦@Wordlon»",
    f"@Wordlat «¦: »@ulat{DEG}, @Wordlon «¦: »@ulon{DEG}",
    f"@ulat{DEG} @wordlat latitude, @ulon{DEG} @wordlon longitude",
    "@wordlat latitude @ulat, @wordlon longitude @ulon",
    f"@ernlat latitude «of ¦»@ulat{DEG} and @ernlon longitude «of ¦»@ulon{DEG}",
    f"Latitude: @ulat{DEG} @Wordlat«, ¦\n»Longitude: @ulon{DEG} @Wordlon",
    f"Longitude: @ulon{DEG} «to the ¦»@wordlon, Latitude: @ulat{DEG} «to the ¦»@wordlat",
    "Lat: @ulat°, @Ernlat Hemisphere; Lon: @ulon°, @Ernlon Hemisphere",
    "latitude @ulat in the @ernlat hemisphere, longitude @ulon in the @ernlon «hemisphere¦»",
    "latitude of @ulat degrees (@ernlat hemisphere), longitude of @ulon degrees (@ernlon hemisphere)",
    "@ulat degrees @wordlat of the equator, @ulon degrees @wordlon of «Greenwich¦the prime meridian»",
    '{"latitude": "@ulat degrees @wordlat", "longitude": "@ulon degrees @wordlon"}',
    "The latitude is @ulat degrees @wordlat, and the longitude is @ulon degrees @wordlon.",
    "lat @ulat @WORDlat lon @ulon @WORDlon",
)
ABROAD = {
    "French": (("nord", "sud"), ("est", "ouest"), "Latitude", "Longitude"),
    "Spanish": (("norte", "sur"), ("este", "oeste"), "Latitud", "Longitud"),
    "Portuguese": (("norte", "sul"), ("leste", "oeste"), "Latitude", "Longitude"),
    "Italian": (("nord", "sud"), ("est", "ovest"), "Latitudine", "Longitudine"),
    "German": (("nord", "süd"), ("ost", "west"), "Breite", "Länge"),
    "German, adjectives": (("nördlich", "südlich"), ("östlich", "westlich"), "Breite", "Länge"),
    "Dutch": (("noord", "zuid"), ("oost", "west"), "Breedtegraad", "Lengtegraad"),
    "Swedish": (("nord", "syd"), ("öst", "väst"), "Latitud", "Longitud"),
    "Polish": (("północ", "południe"), ("wschód", "zachód"), "Szerokość", "Długość"),
    "Russian": (("с. ш.", "ю. ш."), ("в. д.", "з. д."), "Широта", "Долгота"),
    "Russian, words": (("север", "юг"), ("восток", "запад"), "Широта", "Долгота"),
    "Turkish": (("kuzey", "güney"), ("doğu", "batı"), "Enlem", "Boylam"),
    "Indonesian": (("utara", "selatan"), ("timur", "barat"), "Lintang", "Bujur"),
    "initials of Spanish": (("N", "S"), ("E", "O"), "Latitud", "Longitud"),
    "initials of French": (("N", "S"), ("E", "O"), "Latitude", "Longitude"),
    "initials of German": (("N", "S"), ("O", "W"), "Breite", "Länge"),
    "initials of German, English names": (("N", "S"), ("O", "W"), "Latitude", "Longitude"),
    "initials of Portuguese": (("N", "S"), ("L", "O"), "Latitude", "Longitude"),
    "initials of Dutch": (("N", "Z"), ("O", "W"), "Breedtegraad", "Lengtegraad"),
}
ABROAD_TEMPLATES = (
    "@ulat«° ¦ ¦°»@nlat«, ¦; ¦ ¦ – »@ulon«° ¦ ¦°»@nlon",
    "@namelat«: ¦ : ¦ »@ulat«° ¦ »«@nlat¦@Nlat»«, ¦; ¦\n»@namelon«: ¦ : ¦ »@ulon«° ¦ »«@nlon¦@Nlon»",
    '{"latitude": "@ulat° @nlat", "longitude": "@ulon° @nlon"}',
    "@nlat @ulat, @nlon @ulon",
    "@Nlat@ulat @Nlon@ulon",
    "@ulon° @nlon, @ulat° @nlat",
    "lat: @ulat @nlat, lon: @ulon @nlon",
)
IN_ASIA = {
    "Chinese": (("北纬", "南纬"), ("东经", "西经")),
    "Chinese, traditional": (("北緯", "南緯"), ("東經", "西經")),
    "Japanese": (("北緯", "南緯"), ("東経", "西経")),
    "Korean": (("북위 ", "남위 "), ("동경 ", "서경 ")),
}
IN_ASIA_TEMPLATES = (
    "@nlat@ulat«度¦°¦ 도¦»«，¦、¦, ¦ »@nlon@ulon«度¦°¦ 도¦»",
    "@nlon@ulon«度¦°¦»«，¦、¦, ¦ »@nlat@ulat«度¦°¦»",
    "这张照片拍摄于@nlat@ulat度，@nlon@ulon度。",
    "@nlat：@ulat，@nlon：@ulon",
)
REF_FIELDS = (
    '{"latitude": @ulat, "«latitude_ref¦lat_ref¦lat_direction¦latitude_hemisphere¦lat_hemisphere¦latitudeRef¦NS'
    '¦ns_hemisphere»": "@letterlat", "longitude": @ulon, "«longitude_ref¦lon_ref¦lon_direction¦longitude_hemisphere'
    '¦lon_hemisphere¦longitudeRef¦EW¦ew_hemisphere»": "@letterlon"}',
    '{"lat_ref": "@letterlat", "lat": @ulat, "lon_ref": "@letterlon", "lon": @ulon}',
    '{"lat": @ulat, "lon": @ulon, "lat_dir": "@wordlat", "lon_dir": "@wordlon"}',
    '{"GPSLatitude": «@ulat¦"@ulat"», "GPSLatitudeRef": "@letterlat", "GPSLongitude": @ulon,'
    ' "GPSLongitudeRef": "@letterlon"}',
    '{"GPSLatitudeRef": "@letterlat", "GPSLatitude": @ulat, "GPSLongitudeRef": "@letterlon", "GPSLongitude": @ulon}',
    '{"latitude": {"«value¦degrees¦decimal»": @ulat, "«direction¦hemisphere¦ref¦dir¦cardinal»": "@letterlat"},'
    ' "longitude": {"«value¦degrees¦decimal»": @ulon, "«direction¦hemisphere¦ref¦dir¦cardinal»": "@letterlon"}}',
    '{"latitude": {"«direction¦hemisphere»": "@Wordlat", "value": @ulat},'
    ' "longitude": {"«direction¦hemisphere»": "@Wordlon", "value": @ulon}}',
    '{"latitude": @ulat, "hemisphere": "@letterlat", "longitude": @ulon, "hemisphere": "@letterlon"}',
    '{"latitude": [@ulat, "@letterlat"], "longitude": [@ulon, "@letterlon"]}',
    "GPS Latitude Ref                : @Wordlat\nGPS Latitude                    : @ulat\n"
    "GPS Longitude Ref               : @Wordlon\nGPS Longitude                   : @ulon",
    "Latitude: @ulat\nLatitude direction: @Wordlat\nLongitude: @ulon\nLongitude direction: @Wordlon",
    "lat=@ulat&latRef=@letterlat&lon=@ulon&lonRef=@letterlon",
    "lat,lat_ref,lon,lon_ref\n@ulat,@letterlat,@ulon,@letterlon",
    "| Latitude | N/S | Longitude | E/W |\n|---|---|---|---|\n| @ulat | @letterlat | @ulon | @letterlon |",
)
PART_FIELDS = (
    '{"latitude": {"«degrees¦deg¦d»": @dlat, "«minutes¦min¦m»": @mlat, "«seconds¦sec¦s»": @slat, "direction":'
    ' "@letterlat"}, "longitude": {"«degrees¦deg¦d»": @dlon, "«minutes¦min¦m»": @mlon, "«seconds¦sec¦s»": @slon,'
    ' "direction": "@letterlon"}}',
    '{"latitude": {"hemisphere": "@letterlat", "degrees": @dlat, "minutes": @mlat, "seconds": @slat}, "longitude":'
    ' {"hemisphere": "@letterlon", "degrees": @dlon, "minutes": @mlon, "seconds": @slon}}',
    '{"lat_deg": @dlat, "lat_min": @mlat, "lat_sec": @slat, "lat_dir": "@letterlat", "lon_deg": @dlon, "lon_min":'
    ' @mlon, "lon_sec": @slon, "lon_dir": "@letterlon"}',
    '{"GPSLatitude": [@dlat, @mlat, @slat], "GPSLatitudeRef": "@letterlat", "GPSLongitude": [@dlon, @mlon, @slon],'
    ' "GPSLongitudeRef": "@letterlon"}',
    '{"latitude": {"degrees": @signlat@dlat, "minutes": @mlat, "seconds": @slat},'
    ' "longitude": {"degrees": @signlon@dlon, "minutes": @mlon, "seconds": @slon}}',
    "{'GPSLatitudeRef': '@letterlat', 'GPSLatitude': (@dlat, @mlat, @slat), 'GPSLongitudeRef': '@letterlon',"
    " 'GPSLongitude': (@dlon, @mlon, @slon)}",
    "GPSLatitude: @dlat/1 @mlat/1 @slat/1\nGPSLatitudeRef: @letterlat\nGPSLongitude: @dlon/1 @mlon/1 @slon/1\n"
    "GPSLongitudeRef: @letterlon",
    "Latitude: @dlat, @mlat, @slat (@letterlat)\nLongitude: @dlon, @mlon, @slon (@letterlon)",
    "latitude degrees: @dlat, minutes: @mlat, seconds: @slat, @letterlat; longitude degrees: @dlon, minutes: @mlon,"
    " seconds: @slon, @letterlon",
)
SIGNS = (
    f"{LAT}«: ¦=¦ is »@slat, {LON}«: ¦=¦ is »@slon",
    "@slat, @slon",
    "(@slat, @slon)",
    '{"latitude": "@slat", "longitude": "@slon"}',
    "[@slat; @slon]",
    "Latitude @slat«°¦ degrees¦»\nLongitude @slon«°¦ degrees¦»",
)
COMMAS = (
    "Latitude«: ¦ : »@lat, Longitude«: ¦ : »@lon",
    "@lat«; ¦ / ¦ ¦\n¦, ¦ | »@lon",
    "(@lat; @lon)",
    "Coordonnées : @lat, @lon",
    "@ulat«° ¦ ¦°»@letterlat«, ¦; ¦ »@ulon«° ¦ ¦°»@letterlon",
    "@letterlat«¦ »@ulat«, ¦; ¦ »@letterlon«¦ »@ulon",
    '{"latitude": "@lat", "longitude": "@lon"}',
    "lat=@lat lon=@lon",
    "| Latitude | Longitude |\n|---|---|\n| @lat | @lon |",
    "lat;lon\n@lat;@lon",
)
MARKED = (
    "@ulat«¦ »@letterlat«, ¦ ¦; ¦\n¦ / »@ulon«¦ »@letterlon",
    "@ulon«¦ »@letterlon, @ulat«¦ »@letterlat",
    "@letterlat«¦ »@ulat«, ¦ ¦; »@letterlon«¦ »@ulon",
    "@letterlon«¦ »@ulon, @letterlat«¦ »@ulat",
    "@lat«, ¦ ¦; »@lon",
    f"{LAT}«: ¦ »@lat, {LON}«: ¦ »@lon",
    f"{LAT}«: ¦ »@ulat«¦ »@letterlat\n{LON}«: ¦ »@ulon«¦ »@letterlon",
    "@ulat @Wordlat, @ulon @Wordlon",
    "Latitude: @letterlat @ulat, Longitude: @letterlon @ulon",
    '{"latitude": "@quotedlat«¦ »@letterlat", "longitude": "@quotedlon«¦ »@letterlon"}',
    "(@ulat @letterlat, @ulon @letterlon)",
    "GPS Latitude Ref: @Wordlat\nGPS Latitude: @ulat\nGPS Longitude Ref: @Wordlon\nGPS Longitude: @ulon",
    "{{coord|@lat|@lon}}",
)
UNMARKED = (
    "@ulat«¦ »@letterlat«, ¦ ¦; ¦\n»@ulon«¦ »@letterlon",
    "@letterlat«¦ »@ulat«, ¦ ¦; ¦ / »@letterlon«¦ »@ulon",
    f"{LAT}«: ¦ »@ulat @letterlat«, ¦\n¦ »{LON}«: ¦ »@ulon @letterlon",
    f"{LAT}: @lat, {LON}: @lon",
    "@lat, @lon",
    '{"latitude": "@ulat @letterlat", "longitude": "@ulon @letterlon"}',
    "@ulat @Wordlat, @ulon @Wordlon",
)


def parts_of(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the blanks of degrees, minutes and seconds in fields of their own."""
    blanks = {}
    for angle in (lat, lon):
        blanks[f"sign{angle.axis}"] = "-" * angle.negative
        for letter, part in zip("dms", angle.parts, strict=True):
            blanks[letter + angle.axis] = part
    return blanks


def quoted(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as they stand inside double quotes."""
    return {f"quoted{angle.axis}": angle.text.replace("\\", "\\\\").replace('"', '\\"') for angle in (lat, lon)}


def signed(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles with unusual signs."""
    minus = draw(
        st.sampled_from(["-", "−", "–", "‐", "‑", "－", "- ", "− ", "minus ", "negative ", "Negative ", "neg. ", "\\-"])
    )
    plus = draw(st.sampled_from(["", "+", "+ ", "plus ", "positive "]))
    return {f"s{angle.axis}": (minus if angle.negative else plus) + angle.text for angle in (lat, lon)}


def words_of(
    lat_words: tuple[str, str], lon_words: tuple[str, str], lat_name: str = "", lon_name: str = ""
) -> Callable[[st.DrawFn, Angle, Angle], dict[str, str]]:
    """Return the function that fills in the hemispheres of one language."""

    def words(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
        n, e = lat_words[lat.negative], lon_words[lon.negative]
        names = {"namelat": lat_name, "namelon": lon_name}
        return {"nlat": n, "nlon": e, "Nlat": n[:1].upper() + n[1:], "Nlon": e[:1].upper() + e[1:], **names}

    return words


def loud(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the hemispheres in capitals."""
    return {"WORDlat": ("NORTH", "SOUTH")[lat.negative], "WORDlon": ("EAST", "WEST")[lon.negative]}


def iso_6709(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as ISO 6709 writes them: a sign, and a fixed number of digits for each part."""
    blanks = {}
    for angle, width in ((lat, 2), (lon, 3)):
        first, *others = angle.parts
        whole, point, fraction = first.partition(".")
        digits = whole.zfill(width) + point + fraction + "".join(pad(part) for part in others)
        blanks[f"iso{angle.axis}"] = ("-" if angle.negative else "+") + digits
    return blanks


def run_together(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as sailors and pilots write them: a fixed number of digits, without sign and marks."""
    return {
        f"run{axis}": text[1:] for axis, text in zip(("lat", "lon"), iso_6709(draw, lat, lon).values(), strict=True)
    }


def coord_template(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as Wikipedia's template separates them."""
    return {f"bar{angle.axis}": "|".join(angle.parts) for angle in (lat, lon)}


@st.composite
def abroad_in(draw: st.DrawFn, templates: Iterable[str]) -> Case:
    """Draw a place with the hemispheres of a language that writes them behind or before the number."""
    words = ABROAD[draw(st.sampled_from(list(ABROAD)))]
    notation = draw(st.sampled_from([decimal_degrees, decimal_comma]))
    return draw(places(templates, notation, extra=words_of(*words)))


@st.composite
def in_asia(draw: st.DrawFn) -> Case:
    """Draw a place in Chinese, Japanese or Korean."""
    words = IN_ASIA[draw(st.sampled_from(list(IN_ASIA)))]
    return draw(places(IN_ASIA_TEMPLATES, extra=words_of(*words)))


NOTATIONS: dict[str, st.SearchStrategy[Case]] = {
    "bare pair": places(PAIRS),
    "named": places(NAMED),
    "names of other languages": places(NAMED_ABROAD),
    "hemisphere letters": places(LETTERS),
    "one hemisphere letter": places(ONE_LETTER),
    "hemisphere beside a sign": places(LETTER_BESIDE_SIGN),
    "hemisphere words": places(WORDS, extra=loud),
    "hemispheres of other languages": abroad_in(ABROAD_TEMPLATES),
    "hemispheres before, in Asia": in_asia(),
    "hemisphere fields": places(REF_FIELDS),
    "fields of degrees, minutes, seconds": places(PART_FIELDS, parts=(3,), extra=parts_of),
    "signs": places(SIGNS, extra=signed),
    "decimal commas": places(COMMAS, decimal_comma),
    "degrees and minutes": places(MARKED, degrees_and_minutes, (2,), extra=quoted),
    "degrees, minutes, seconds": places(MARKED, degrees_and_minutes, (3,), extra=quoted),
    "minutes without marks": places(UNMARKED, unmarked_minutes, (2, 3)),
    "ISO 6709": places(
        ("@isolat@{isolon}«/¦¦CRSWGS_84/¦+¤¤¤.¤/¦+¤¤/»", "ISO 6709: @isolat@isolon/"), parts=(1, 2, 3), extra=iso_6709
    ),
    "digits run together": places(
        (
            "@letterlat@runlat«, ¦ ¦»@letterlon@runlon",
            "@runlat@letterlat«, ¦ ¦»@runlon@letterlon",
        ),
        parts=(2, 3),
        extra=run_together,
    ),
    "NMEA": places(
        (
            "$GPGGA,123519,@runlat,@letterlat,@runlon,@letterlon,1,08,0.9,545.4,M,46.9,M,,*47",
            "$GPRMC,123519,A,@runlat,@letterlat,@runlon,@letterlon,022.4,084.4,230394,003.1,W*6A",
        ),
        parts=(2,),
        extra=run_together,
    ),
    "coord template": places(
        (
            "{{«coord¦Coord»|@barlat|@letterlat|@barlon|@letterlon«¦|display=title¦|region:FR_type:city»}}",
            "{{coord |@barlat |@letterlat |@barlon |@letterlon |display=inline,title}}",
        ),
        parts=(1, 2, 3),
        extra=coord_template,
    ),
}
