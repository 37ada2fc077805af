"""Kinds of texts that state one place in a format of its own, or beside other numbers and other places."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from urllib.parse import quote

from hypothesis import strategies as st

from tests.geotune.tasks.notations import WORDS, Angle, Case, decimal_comma, degrees_and_minutes, places
from tests.geotune.tasks.stating_kinds import LAT, LON

OBJECT = '{"latitude": @lat, "longitude": @lon}'
OTHER = '{"latitude": @lat2, "longitude": @lon2}'
AXES = "«(lon, lat)¦(longitude, latitude)¦lon, lat¦lon/lat¦longitude,latitude¦lng,lat¦[lon, lat]¦Longitude/Latitude»"
AXES_LAT = (
    "«(lat, lon)¦(latitude, longitude)¦lat, lon¦lat/lon¦latitude,longitude¦lat,lng¦[lat, lon]¦Latitude/Longitude»"
)

ORDERS = (
    f"{AXES}«: ¦ = ¦=¦:\n»«@lon, @lat¦(@lon, @lat)¦[@lon, @lat]¦@lon,@lat»",
    f"{AXES_LAT}«: ¦ = ¦=¦:\n»«@lat, @lon¦(@lat, @lon)¦[@lat, @lon]¦@lat,@lon»",
    f"«In ¦»{AXES} «order¦format»: @lon, @lat",
    f"«@lon, @lat¦(@lon, @lat)¦[@lon, @lat]» («in ¦»{AXES}« order¦»)",
    f"«@lat, @lon¦(@lat, @lon)¦[@lat, @lon]» ({AXES_LAT})",
    "«longitude, then latitude¦longitude first¦longitude, followed by latitude¦longitude before latitude»: @lon, @lat",
    "«@lon, @lat¦[@lon, @lat]» «(longitude first)¦— longitude first¦, longitude first¦(lon first)»",
    "GeoJSON order: [@lon, @lat]",
    "The longitude and latitude are «about ¦»@lon and @lat«, respectively¦».",
    "The latitude and longitude are «about ¦»@lat and @lon«, respectively¦».",
    "Coordinates in longitude-latitude order: @lon, @lat",
    "Coordinates (longitude, latitude): @lon, @lat",
    '{"«format¦order¦axis_order¦coordinate_order»": "«lon,lat¦lonlat¦longitude, latitude¦[lon, lat]¦lng,lat»",'
    ' "coordinates": [@lon, @lat]}',
    '{"coordinates": [@lon, @lat], "«format¦order¦axis_order»": "«lon,lat¦lonlat¦longitude, latitude»"}',
    '{"«lonlat¦lon_lat¦lng_lat¦lnglat¦coordinates_lon_lat¦coordinates (lon, lat)»": [@lon, @lat]}',
    '{"«latlon¦lat_lon¦lat_lng¦latlng»": [@lat, @lon]}',
    "坐标（经度«, ¦，¦、»纬度）：(@lon, @lat)",
    "坐标（纬度«, ¦，¦、»经度）：(@lat, @lon)",
    "«new ¦»«LngLat¦mapboxgl.LngLat¦lonlat¦fromLonLat»(«[@lon, @lat]¦@lon, @lat»)",
    "«LatLng¦L.latLng¦new google.maps.LatLng»(@lat, @lon)",
    "\\boxed{(\\text{lon}, \\text{lat}) = (@lon, @lat)}",
    "x = longitude, y = latitude: (@lon, @lat)",
    "GeoJSON puts the longitude first, but here latitude comes first: @lat, @lon",
    "Not in lon/lat order but (lat, lon): @lat, @lon",
    "(lon, lat): @ulon° @letterlon, @ulat° @letterlat",
)
GEOJSON = (
    '{"type": "Point", "coordinates": [@lon, @lat«¦, ¤¤.¤»]}',
    '{"coordinates": [@lon, @lat], "type": "Point"}',
    "{'type': 'Point', 'coordinates': [@lon, @lat]}",
    '{\n  "type": "Point",\n  "coordinates": [\n    @lon,\n    @lat\n  ]\n}',
    '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [@lon, @lat]}, "properties": {"name": "Paris"}}',
    '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": {"coordinates":'
    ' [@lon, @lat], "type": "Point"}}]}',
    'The answer as GeoJSON:\n```json\n{"type": "Point", "coordinates": [@lon, @lat]}\n```',
    '{"location": {"type": "Point", "coordinates": [@lon, @lat]}, "confidence": 0.¤}',
    '<answer>{"type":"Point","coordinates":[@lon,@lat]}</answer>',
    '{"geometry": {"coordinates": [@lon, @lat]}}',
)
WKT = (
    "«POINT¦Point¦point¦POINT »(@lon @lat)",
    "«SRID=4326;¦srid=4326; »POINT(@lon @lat)",
    "POINT «Z ¦M »(@lon @lat ¤¤)",
    "POINTZ(@lon @lat ¤)",
    "<http://www.opengis.net/def/crs/OGC/1.3/CRS84> Point(@lon @lat)",
    '{"wkt": "POINT (@lon @lat)"}',
    "WKT: `POINT (@lon @lat)`",
)
POSTGIS = (
    "«ST_MakePoint¦ST_Point¦st_makepoint»(@lon«, ¦,»@lat)",
    "ST_SetSRID(ST_MakePoint(@lon, @lat), 4326)«::geography¦»",
    "«ST_GeomFromText¦ST_PointFromText»('POINT(@lon @lat)', 4326)",
    "ST_Point(@lon, @lat, 4326)",
    "ST_GeogFromText('SRID=4326;POINT(@lon @lat)')",
    "SELECT ST_SetSRID(ST_Point(@lon, @lat), 4326);",
)
MARKUP = (
    "<coordinates>@lon,@lat«,0¦¦,¤¤.¤»</coordinates>",
    "<Placemark><name>Paris</name><Point><coordinates>@lon,@lat,0</coordinates></Point></Placemark>",
    "<coordinates>\n  @lon,@lat,0\n</coordinates>",
    '<wpt lat="@lat" lon="@lon">«<ele>¤.¤¤</ele>¦»</wpt>',
    '<trkpt lon="@lon" lat="@lat"><ele>¤¤.¤</ele></trkpt>',
    "<geo:lat>@lat</geo:lat> <geo:long>@lon</geo:long>",
    "<georss:point>@lat @lon</georss:point>",
    '<node id="¤¤¤¤¤¤¤" lat="@lat" lon="@lon" version="3"/>',
    '<meta name="ICBM" content="@lat, @lon">',
    '<meta name="geo.position" content="@lat;@lon">',
)
LINKS = (
    "https://www.google.com/maps/@@lat,@lon,17z",
    "https://«maps.google.com/¦www.google.com/maps»?q=@lat,@lon",
    "https://www.google.com/maps/search/?api=1&query=@lat«,¦%2C»@lon",
    "https://www.google.com/maps/place/X/@@lat2,@lon2,17z/data=!3m1!4b1!4m5!3m4!1s0x0:0x0!8m2!3d@lat!4d@lon",
    "https://www.google.com/maps/dir//@lat,@lon",
    "https://www.openstreetmap.org/#map=12/@lat/@lon",
    "https://www.openstreetmap.org/?mlat=@lat&mlon=@lon#map=12/@lat/@lon",
    "https://www.openstreetmap.org/search?query=@lat%2C%20@lon",
    "https://maps.apple.com/?ll=@lat,@lon«¦&q=Pin¦&z=12»",
    "https://www.bing.com/maps?cp=@lat~@lon&lvl=15",
    "https://waze.com/ul?ll=@lat,@lon",
    "https://maps.googleapis.com/maps/api/streetview?location=@lat,@lon&heading=¤¤.¤&pitch=¤.¤",
    "[here](https://maps.google.com/?q=@lat,@lon)",
    "See https://maps.google.com/?q=@lat,@lon for the place.",
)
LINKS_LON_FIRST = (
    "https://yandex.com/maps/?ll=@lon«,¦%2C»@lat&z=12",
    "https://2gis.ru/geo/@lon,@lat",
    "https://uri.amap.com/marker?position=@lon,@lat",
    "https://api.mapbox.com/styles/v1/mapbox/streets-v11/static/pin-s+555555(@lon,@lat)/@lon,@lat,14/600x300",
)
GEO_URI = ("geo:@lat,@lon«¦,¤¤¤¦;u=¤¤¦?z=¤¤¦;crs=wgs84»", "[Statue](geo:@lat,@lon)", "geo:@lat,@lon?q=@lat,@lon")
TABLES = (
    "| City | Latitude | Longitude |\n|---|---|---|\n| Paris | @lat | @lon |",
    "| Lon | Lat |\n|:---:|:---:|\n| @lon | @lat |",
    "| Latitude | Longitude |\n|---|---|\n| @lat | @lon |",
    "|Lat|Lon|Confidence|\n|-----|-----|------------|\n|@lat|@lon|«0.¤¦¤¤%»|",
    "| Rank | Location | Lat | Lon | Confidence |\n|---|---|---|---|---|\n| 1 | Paris | @lat | @lon | ¤¤% |\n"
    "| 2 | Lyon | @lat2 | @lon2 | ¤¤% |",
    "| «Field¦Key¦Item» | Value |\n|---|---|\n| Latitude | @lat |\n| Longitude | @lon |",
    "| **Latitude** | @lat |\n| **Longitude** | @lon |",
    "| Latitude | Altitude (m) | Longitude |\n|---|---|---|\n| @lat | ¤¤.¤ | @lon |",
    "| Longitude | Year | Latitude |\n|---|---|---|\n| @lon | 2019 | @lat |",
    "| Year | Lat | Lon |\n|---|---|---|\n| 2019 | @lat | @lon |",
    "| Lat | Lon | Lat error | Lon error |\n|---|---|---|---|\n| @lat | @lon | 0.¤¤ | 0.¤¤ |",
    "| Confidence | Longitude | Latitude |\n| --- | --- | --- |\n| 0.¤¤ | @lon | @lat |",
    "<table><tr><th>«Longitude</th><th>Latitude</th></tr><tr><td>@lon</td><td>@lat¦Latitude</th><th>Longitude</th></tr>"
    "<tr><td>@lat</td><td>@lon»</td></tr></table>",
    "| Latitude | Longitude |\n|---|---|\n| @ulat° @letterlat | @ulon° @letterlon |",
    "| Place | Coordinates |\n|---|---|\n| Paris | @lat, @lon |",
)
CSV = (
    "lat,lon\n@lat,@lon",
    "id,lon,lat\n¤¤,@lon,@lat",
    "lat;lon\n@lat;@lon",
    "name\tlat\tlon\nParis\t@lat\t@lon",
    "image,latitude,longitude,confidence\nIMG_1.jpg,@lat,@lon,0.¤¤",
    "longitude,latitude\n@lon,@lat\n",
    "```csv\nlongitude,latitude,city\n@lon,@lat,Paris\n```",
    "lon, alt, lat\n@lon, ¤¤.¤, @lat",
)
ALTERNATIVES = (
    f'{{"latitude": @lat, "longitude": @lon, "«alternatives¦candidates¦second_guess¦runner_up¦fallback»": '
    f"«[{OTHER}]¦{OTHER}»}}",
    f'{{"«alternatives¦rejected¦considered¦ruled_out»": [{OTHER}], "latitude": @lat, "longitude": @lon}}',
    f'{{"primary": {OBJECT}, "«secondary¦second_choice¦backup»": {OTHER}}}',
    f'{{"«secondary¦second_choice¦backup»": {OTHER}, "primary": {OBJECT}}}',
    f'{{"best_guess": {OBJECT}, "second_best": {OTHER}}}',
    f'{{"«final_answer¦answer¦prediction»": {OBJECT}, "«initial_guess¦alternative¦draft»": {OTHER}}}',
    f'{{"«initial_guess¦draft¦previous»": {OTHER}, "«final_answer¦answer¦prediction»": {OBJECT}}}',
    '{"predictions": [{"rank": 1, "lat": @lat, "lon": @lon}, {"rank": 2, "lat": @lat2, "lon": @lon2}]}',
    '[{"rank": 2, "lat": @lat2, "lon": @lon2}, {"rank": 1, "lat": @lat, "lon": @lon}]',
    f"[{OBJECT}, {OTHER}]",
    '[{"latitude": @lat, "longitude": @lon, "confidence": 0.7}, {"latitude": @lat2, "longitude": @lon2, "confidence":'
    " 0.2}]",
    '[{"latitude": @lat2, "longitude": @lon2, "«confidence¦probability¦score»": 0.2}, {"latitude": @lat, "longitude":'
    ' @lon, "«confidence¦probability¦score»": 0.7}]',
    '{"top_3": [[@lat, @lon], [@lat2, @lon2]]}',
    "Best guess: @lat, @lon. Alternative: @lat2, @lon2.",
    "1. Paris: @lat, @lon (60%)\n2. Brussels: @lat2, @lon2 (25%)",
    "2. Brussels: @lat2, @lon2 (25%)\n1. Paris: @lat, @lon (60%)",
    "«Primary¦First¦Best» guess: @ulat° @letterlat, @ulon° @letterlon\n«Second¦Alternative¦Next» guess: @ulat2°"
    " @letterlat2, @ulon2° @letterlon2",
    "Most likely @lat, @lon, «but possibly¦otherwise¦or else» @lat2, @lon2.",
    "#1: @lat, @lon\n#2: @lat2, @lon2",
    "Rank 1: lat @lat, lon @lon\nRank 2: lat @lat2, lon @lon2",
    "My answer is lat: @lat, lon: @lon. «Another option¦A second candidate¦Runner-up¦Plan B» is"
    " lat: @lat2, lon: @lon2.",
    "The answer is (@lat, @lon), not (@lat2, @lon2).",
    "It is not @lat2, @lon2 but @lat, @lon.",
    "I first thought of @lat2, @lon2, but it is @lat, @lon.",
    f"{OTHER}\n«On reflection¦Correction¦Wait, no¦Revised answer»:\n{OBJECT}",
)
IN_PASSING = (
    "The photo was taken at @ulat° @letterlat, @ulon° @letterlon, northwest of Los Angeles (@ulat2° @letterlat2,"
    " @ulon2° @letterlon2).",
    "**Latitude:** @lat\n**Longitude:** @lon\n\nFor comparison, Oakland lies at @lat2, @lon2.",
    "«Latitude: @lat, Longitude: @lon¦@lat, @lon».\nFor reference, the «city centre¦airport» is at «@lat2, @lon2¦"
    "latitude @lat2, longitude @lon2».",
    '{"latitude": @lat, "longitude": @lon, "«reasoning¦reason¦explanation¦notes»": "«Similar to¦Unlike» Paris at'
    ' «@lat2, @lon2¦@ulat2 @letterlat2, @ulon2 @letterlon2¦latitude @lat2, longitude @lon2»."}',
    '{"«reasoning¦reason¦explanation¦notes»": "«Similar to¦Unlike» Paris at «@lat2, @lon2¦@ulat2 @letterlat2, @ulon2'
    ' @letterlon2¦latitude @lat2, longitude @lon2».", "latitude": @lat, "longitude": @lon}',
    "Unlike Lyon (@lat2, @lon2), this is at «@lat, @lon¦lat @lat, lon @lon».",
    "The camera at @lat, @lon faces the tower (@lat2, @lon2).",
    "Final answer: @lat, @lon\n\n(The capital, at @lat2, @lon2, is far away.)",
    "It is about 3 km from the station (@lat2, @lon2). Final answer: @lat, @lon",
    '{"answer": {"lat": @lat, "lon": @lon}, "nearest_city": {"name": "Lyon", "lat": @lat2, "lon": @lon2}}',
    '{"nearest_city": {"name": "Lyon", "lat": @lat2, "lon": @lon2}, "answer": {"lat": @lat, "lon": @lon}}',
    '{"lat": @lat, "lon": @lon, "«country_center¦landmark¦reference_point»": {"lat": @lat2, "lon": @lon2}}',
    '{"lat": @lat, "lon": @lon, "«landmark»_lat": @lat2, "«landmark»_lon": @lon2}',
)
BESIDE = (
    '{"bounding_box": {"min_lat": ¤¤.¤, "min_lon": ¤¤.¤, "max_lat": ¤¤.¤, "max_lon": ¤¤.¤}, "latitude": @lat,'
    ' "longitude": @lon}',
    '{"latitude": @lat, "longitude": @lon, "«bbox¦bounding_box»": «[¤¤.¤, ¤¤.¤, ¤¤.¤, ¤¤.¤]¦{"north": ¤¤.¤, "south":'
    ' ¤¤.¤, "east": ¤¤.¤, "west": ¤¤.¤}»}',
    '{"latitude": @lat, "longitude": @lon, "lat_«min¦lower»": ¤¤.¤, "lat_«max¦upper»": ¤¤.¤, "lon_«min¦lower»": ¤¤.¤,'
    ' "lon_«max¦upper»": ¤¤.¤}',
    '{"lat": @lat, "lon": @lon, "«delta¦std¦sigma¦d»_lat": 0.¤¤, "«delta¦std¦sigma¦d»_lon": 0.¤¤}',
    '{"«delta¦std¦sigma¦err»_lat": 0.¤¤, "«delta¦std¦sigma¦err»_lon": 0.¤¤, "lat": @lat, "lon": @lon}',
    '{"latitude": @lat, "latitude_«error¦std¦uncertainty¦sd»": 0.¤¤, "longitude": @lon,'
    ' "longitude_«error¦std¦uncertainty¦sd»": 0.¤¤}',
    '{"latitude": {"«value¦mean¦estimate¦best»": @lat, "«std¦error¦min»": ¤.¤}, "longitude": {"«value¦mean¦estimate'
    '¦best»": @lon, "«std¦error¦min»": ¤.¤}}',
    '{"latitude": {"«std¦error¦min»": ¤.¤, "value": @lat}, "longitude": {"«std¦error¦min»": ¤.¤, "value": @lon}}',
    '{"location": {"lat": @lat, "lng": @lon}, "viewport": {"northeast": {"lat": ¤¤.¤, "lng": ¤¤.¤}, "southwest":'
    ' {"lat": ¤¤.¤, "lng": ¤¤.¤}}}',
    '{"viewport": {"northeast": {"lat": ¤¤.¤, "lng": ¤¤.¤}, "southwest": {"lat": ¤¤.¤, "lng": ¤¤.¤}}, "location":'
    ' {"lat": @lat, "lng": @lon}}',
    '{"center": {"lat": @lat, "lon": @lon}, "radius_km": ¤¤.¤}',
    '{"year": 2019, "latitude": @lat, "confidence": 0.¤¤, "longitude": @lon, "radius_km": ¤¤.¤, "size": [1920, 1080]}',
    '{"latitude": @lat, "longitude": @lon, "altitude": ¤¤.¤, "heading": ¤¤.¤, "fov": [¤¤.¤, ¤¤.¤]}',
    "lat_min: ¤¤.¤, lat: @lat, lat_max: ¤¤.¤, lon_min: ¤¤.¤, lon: @lon, lon_max: ¤¤.¤",
    '{"center": [@lat, @lon], "bbox": [¤¤.¤, ¤¤.¤, ¤¤.¤, ¤¤.¤]}',
    "Latitude: @lat\nLatitude error: 0.¤¤\nLongitude: @lon\nLongitude error: 0.¤¤",
    "lat: @lat (dlat 0.¤¤), lon: @lon (dlon 0.¤¤)",
)
PM = "«±¦ ± ¦ +/- ¦+/-¦ +- ¦ \\pm ¦ $\\pm$ ¦ plus or minus ¦ ∓ ¦&plusmn;¦&#177;»"
TOLERANCES = (
    f"@lat{PM}«0.¤¤¦¤¦¤.¤», @lon{PM}«0.¤¤¦¤¦¤.¤»",
    f"(@lat{PM}0.¤, @lon{PM}0.¤)",
    f"@ulat{PM}0.¤¤ @letterlat, @ulon{PM}0.¤¤ @letterlon",
    f"@ulat° @letterlat{PM}0.¤«°¦», @ulon° @letterlon{PM}0.¤«°¦»",
    f"@ulat°{PM}0.¤° @letterlat, @ulon°{PM}0.¤° @letterlon",
    f"{LAT}: @lat{PM}0.¤¤, {LON}: @lon{PM}0.¤¤",
    "@lat (±0.¤), @lon (±0.¤)",
    "@lat, @lon «(±0.¤)¦± 0.¤°¦(± ¤¤ km)¦(within ¤ km)¦, give or take ¤¤ km¦with an error of ¤.¤ km¦within 0.¤ degrees¦"
    "(+/- 0.¤¤ deg)¦(accuracy: ¤¤ m)¦(radius ¤.¤ km)¦[error 0.¤]¦~¤ km»",
    f'{{"latitude": "@lat{PM}0.¤¤", "longitude": "@lon{PM}0.¤¤"}}'.replace("\\pm", "\\\\pm"),
    "lat: @lat (95% CI ¤¤.¤ to ¤¤.¤), lon: @lon (95% CI ¤¤.¤ to ¤¤.¤)",
    "lat @lat (range ¤¤.¤-¤¤.¤), lon @lon (range ¤¤.¤–¤¤.¤)",
    "lat: @lat [¤¤.¤, ¤¤.¤], lon: @lon [¤¤.¤, ¤¤.¤]",
    "lat: @lat (error: 0.¤), lon: @lon (error: 0.¤)",
    "@lat(¤), @lon(¤)",
    "lat = @lat(¤¤), lon = @lon(¤¤)",
    "@lat (sd 0.¤¤), @lon (sd 0.¤¤)",
)
NOISE = (
    "«It was shot on 2023-05-12 at 14:30.¦It costs $¤¤.¤¤.¦(model v2.5.1)¦Taken with f/2.8, 1/250 s, ISO 100, 4.25 mm."
    "¦Zip 94103.¦Tel. 415-555-0100.¦IP 192.168.1.20.¦Confidence: 0.¤¤.¦The elevation is ¤¤.¤ m.¦Population 2,102,650."
    "¦On 12.05.2023.¦I am ¤¤% sure.¦The image is 1920x1080.¦The tower is 300 m tall, from 1889.¦Take Route 66.5."
    "¦It was ¤¤.¤ °C.¦At 10:30:15.¦Rating 4.5/5.0.¦It lies 3.5 to 4.5 km away.¦Of 3 candidates, 2 fit.¦Scale 1:25,000."
    "¦Python 3.11.4.¦Odds of 3:1.¦Pixels 12.5, 34.5 are dark.¦Exit 12.5.¦§ 4.2.¦Figure 3.2 shows it.»"
)
NOISY = (
    f"{NOISE} «@lat, @lon¦lat: @lat, lon: @lon¦@ulat° @letterlat, @ulon° @letterlon¦{OBJECT}»",
    f"«@lat, @lon¦lat: @lat, lon: @lon¦@ulat° @letterlat, @ulon° @letterlon¦{OBJECT}»\n{NOISE}",
    f"{NOISE}\n«Latitude: @lat\nLongitude: @lon¦(@lat, @lon)»\n{NOISE}",
    f"Latitude: @lat\n{NOISE}\nLongitude: @lon",
    f"lat: @lat, lon: @lon ({NOISE})",
    "At an elevation of ¤¤.¤ m, 3.2 km from the sea, at @lat, @lon.",
    "Lat.: @lat; Long.: @lon; Alt.: ¤¤ m",
    "City: Paris\nZip: 75007\nCountry: France\nLatitude: @lat\nLongitude: @lon\nConfidence: ¤¤%",
    "\\boxed{«France, Paris, @lat, @lon¦@lat, @lon, France, Paris»}",
    "5 Avenue Anatole France, 75007 Paris: @lat, @lon",
    "[@lat, @lon, ¤¤.¤]",
    "@lat, @lon, ¤¤ m",
    "lat: @lat (2019), lon: @lon (2020)",
    "The sign says N12 and E45. Final answer: @lat, @lon",
)
NUMBERED = (
    "«1. ¦1) ¦(1) ¦#1 ¦#1: ¦Answer 1: ¦Photo 3: ¦IMG_2045.jpg: ¦Q2: ¦Step 4. ¦2: ¦[1] ¦Image 12.5: ¦3 - »@lat, @lon",
    "«1. ¦1) ¦Photo 3: ¦Step 4. »lat: @lat, lon: @lon",
    "«1. ¦1) ¦Photo 3: ¦Step 4. »@ulat° @letterlat, @ulon° @letterlon",
    "1. Latitude: @lat\n2. Longitude: @lon",
    "1. @lat\n2. @lon",
    "@lat, @lon [1]",
    "@lat, @lon (1)",
    "@lat, @lon¹",
)
RESTATED = (
    "@ulat° @letterlat, @ulon° @letterlon (@lat, @lon)",
    "@lat, @lon (@ulat° @letterlat, @ulon° @letterlon)",
    "lat: @lat, lon: @lon, i.e. @ulat° @letterlat, @ulon° @letterlon",
    '{"latitude": @lat, "longitude": @lon, "coordinates": "@lat, @lon"}',
    '{"coordinates": [@lat, @lon], "latitude": @lat, "longitude": @lon}',
    '{"latitude": @lat, "longitude": @lon, "geojson": {"type": "Point", "coordinates": [@lon, @lat]}}',
    '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [@lon, @lat]}, "properties": {"latitude": @lat,'
    ' "longitude": @lon}}',
    "@lat, @lon. So the answer is @lat, @lon.",
    "Latitude: @lat\nLongitude: @lon\n\nhttps://maps.google.com/?q=@lat,@lon",
    "<think>@lat, @lon</think>\n@lat, @lon",
)
SCALED = (
    '{"latitudeE7": @latseven, "longitudeE7": @lonseven}',
    '{"«lat_e7¦latE7»": @latseven, "«lon_e7¦lonE7»": @lonseven}',
    "latE6=@latsix, lonE6=@lonsix",
    "latitude: @latsix microdegrees, longitude: @lonsix microdegrees",
)
THOUGHTS = (
    "<think>lat: @lat2, lon: @lon2?</think>\n«lat: @lat, lon: @lon¦@lat, @lon»",
    "<thinking>maybe @lat2, @lon2</thinking>\n«lat: @lat, lon: @lon¦@lat, @lon»",
    "<think>@lat2, @lon2</think><answer>«@lat, @lon¦" + OBJECT + "¦[@lat, @lon]»</answer>",
    "<answer>@lat, @lon</answer> not @lat2, @lon2",
    "<think>The form is <answer>@lat2, @lon2</answer>, say.</think>\nFinal: @lat, @lon",
    "◁think▷maybe @lat2, @lon2◁/think▷@lat, @lon",
    "<think>x</think><|begin_of_box|>@lat, @lon<|end_of_box|>",
    "<answer>@lat, @lon",
    "«Final answer¦FINAL ANSWER¦Answer»: @lat, @lon",
    "\\boxed{«@lat, @lon¦(@lat, @lon)¦lat: @lat, lon: @lon»}",
    "The answer is $\\boxed{@lat, @lon}$.",
)
STRINGS = (
    '"{\\"latitude\\": @lat, \\"longitude\\": @lon}"',
    '{"name": "answer", "arguments": "{\\"latitude\\": @lat, \\"longitude\\": @lon}"}',
    '{"answer": "«latitude: @lat, longitude: @lon¦@lat, @lon¦(@lat, @lon)»"}',
    "```json\n" + OBJECT + "\n```",
    "```\n@lat, @lon\n```",
    '<tool_call>{"name": "answer", "arguments": {"lat": @lat, "lon": @lon}}</tool_call>',
    "{\"answer\": \"{'lat': @lat, 'lon': @lon}\"}",
)
LATEX = (
    "\\boxed{\\text{Latitude: } @ulat^\\circ \\text{ @letterlat}, "
    "\\text{Longitude: } @ulon^\\circ \\text{ @letterlon}}",
    "$@ulat^{\\circ}\\mathrm{@letterlat}, @ulon^{\\circ}\\mathrm{@letterlon}$",
    "\\(@ulat^\\circ\\)«¦ »@letterlat, \\(@ulon^\\circ\\)«¦ »@letterlon",
    "$@ulat^\\circ\\ \\text{@Wordlat}, @ulon^\\circ\\ \\text{@Wordlon}$",
    "\\[@ulat^\\circ \\«text¦mathrm¦mathbf¦textbf¦operatorname»{@letterlat}, \\quad @ulon^\\circ \\text{@letterlon}\\]",
    "$\\left(@lat, @lon\\right)$",
    "\\boxed{@lat«,¦, \\;¦, \\,¦,\\ ¦, \\quad »@lon}",
    "\\[\\boxed{@ulat^\\circ \\, @letterlat, \\ @ulon^\\circ \\, @letterlon}\\]",
    "$\\text{lat} = @lat,\\; \\text{lon} = @lon$",
    "$\\phi = @lat^\\circ,\\; \\lambda = @lon^\\circ$",
    "\\textbf{@lat, @lon}",
    "\\begin{aligned} \\text{Latitude} &= @lat \\\\ \\text{Longitude} &= @lon \\end{aligned}",
    "\\boxed{\\begin{array}{c} @lat \\\\ @lon \\end{array}}",
    "$\\approx @lat^\\circ$, $\\approx @lon^\\circ$",
    "latitude $@lat$, longitude $@lon$",
    "\\boxed{\\text{@ulat}^\\circ\\text{@letterlat}, \\text{@ulon}^\\circ\\text{@letterlon}}",
    "\\num{@lat}, \\num{@lon}",
)
LATEX_MINUTES = (
    "\\[\\boxed{@ulat \\, @letterlat, \\ @ulon \\, @letterlon}\\]",
    "\\(@ulat\\)@letterlat, \\(@ulon\\)@letterlon",
    "$@ulat\\,\\text{@letterlat}$, $@ulon\\,\\text{@letterlon}$",
)
BRACED_COMMA = ("$@ulat^\\circ$ @letterlat, $@ulon^\\circ$ @letterlon", "lat: $@lat$, lon: $@lon$")


def scaled(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as whole numbers of 1e-7 and 1e-6 degrees."""
    return {
        f"{angle.axis}{name}": f"{'-' * angle.negative}{round(Fraction(angle.parts[0]) * scale)}"
        for angle in (lat, lon)
        for name, scale in (("six", 10**6), ("seven", 10**7))
    }


def in_link(draw: st.DrawFn, lat: Angle, lon: Angle) -> dict[str, str]:
    """Return the angles as they stand in an address on the web."""
    return {
        f"link{angle.axis}": quote(angle.text + WORDS[angle.axis]["letter"][angle.negative]) for angle in (lat, lon)
    }


def usual_marks(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees, minutes and seconds with the marks of a keyboard."""
    return lambda parts: "".join(part + mark for part, mark in zip(parts, "°'\"", strict=False))


def latex_marks(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees, minutes and seconds with the marks of LaTeX."""
    space = draw(st.sampled_from(["", " ", "\\,", "\\ "]))
    marks = draw(
        st.sampled_from(
            [
                ("^\\circ", "'", "''"),
                ("^{\\circ}", "'", "''"),
                ("^\\circ", "^\\prime", "^{\\prime\\prime}"),
                ("°", "'", "''"),
            ]
        )
    )
    return lambda parts: space.join(part + mark for part, mark in zip(parts, marks, strict=False))


def braced_comma(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees with LaTeX's decimal comma, `{,}`."""
    return lambda parts: parts[0].replace(".", "{,}")


SURROUNDED: dict[str, st.SearchStrategy[Case]] = {
    "stated orders": places(ORDERS),
    "GeoJSON": places(GEOJSON),
    "WKT": places(WKT),
    "PostGIS": places(POSTGIS),
    "KML, GPX and HTML": places(MARKUP),
    "geo URIs": places(GEO_URI),
    "links to maps": places(LINKS, decimals=1),
    "links with the longitude first": places(LINKS_LON_FIRST, decimals=1),
    "tables": places(TABLES),
    "CSV": places(CSV),
    "alternatives": places(ALTERNATIVES),
    "places in passing": places(IN_PASSING),
    "fields beside an answer": places(BESIDE),
    "tolerances": places(TOLERANCES, decimals=1),
    "tolerances after minutes": places(
        ("@ulat@letterlat ± ¤', @ulon@letterlon ± ¤'", "@ulat @letterlat ± 0.¤¤, @ulon @letterlon ± 0.¤¤"),
        degrees_and_minutes,
        (2, 3),
    ),
    "numbers beside an answer": places(NOISY, decimals=1),
    "numbered answers": places(NUMBERED),
    "answers stated twice": places(RESTATED),
    "whole numbers of 1e-7 degrees": places(SCALED, extra=scaled),
    "links with minutes": places(
        ("https://www.google.com/maps/place/@linklat+@linklon«¦/@@¤¤.¤,¤.¤,17z»",),
        usual_marks,
        (3,),
        extra=in_link,
    ),
    "thoughts and answers": places(THOUGHTS, decimals=1),
    "strings and fences": places(STRINGS, decimals=1),
    "LaTeX": places(LATEX),
    "LaTeX with minutes": places(LATEX_MINUTES, latex_marks, (2, 3)),
    "LaTeX's decimal comma": places(BRACED_COMMA, braced_comma, decimals=1),
    "decimal commas beside names": places(
        ("Latitude : @lat«° ¦ »«¦(WGS 84)», Longitude : @lon", "@lat° et @lon°"), decimal_comma, decimals=1
    ),
}
